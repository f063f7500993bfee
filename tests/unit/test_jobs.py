"""Collections as jobs: one at a time, found by id, resumed under it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regserver.content.collector import Held, Progress, Report
from regserver.content.core import Core
from regserver.content.jobs import Jobs
from regserver.errors import ErrorCode, RegistryError
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import registries
from regserver.storage.catalog.jobs import JobRow, JobStatus
from regserver.storage.sql.port import DatabaseFailed, Transaction
from support.registry import PATIENCE_SECONDS
from support.store import Store, opened_store

REGISTRY = "reg_my"


class FakeCollector:
    """Says once where it is, then waits until it is let go; ``failure`` is how it ends."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.runs: list[tuple[str, str]] = []
        self.go_on = asyncio.Event()
        self.told = asyncio.Event()
        self._failure = failure

    async def collect(self, registry_id: str, progress: Any, *, job_id: str, patient: bool, loose: bool) -> Report:
        self.runs.append((registry_id, job_id))
        await progress(Progress("links", 3, 9))
        self.told.set()
        await self.go_on.wait()
        if self._failure is not None:
            raise self._failure
        return Report(held=[Held("api", "sha256:00", 60)])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path) as opened:
        yield opened


def make_jobs(core: Core, collector: FakeCollector) -> Jobs:
    return Jobs(core, collector)  # type: ignore[arg-type]


async def ended(jobs: Jobs, job: JobRow) -> JobRow:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (row := await jobs.get(job.registry_id, job.id)).status is JobStatus.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return row


async def test_a_job_runs_and_completes_with_what_the_collection_reports(store: Store) -> None:
    collector = FakeCollector()
    jobs = make_jobs(store.core, collector)
    job = await jobs.start(REGISTRY)
    await collector.told.wait()
    running = await jobs.get(REGISTRY, job.id)
    collector.go_on.set()
    done = await ended(jobs, job)
    assert (job.status, job.phase) == (JobStatus.RUNNING, "waiting")
    assert (running.status, running.phase, running.done, running.total) == (JobStatus.RUNNING, "links", 3, 9)
    assert running.completed_at is None
    assert (done.status, done.phase) == (JobStatus.COMPLETED, "done")
    assert done.completed_at is not None
    assert done.report == '{"held": [{"image": "api", "digest": "sha256:00", "seconds": 60}]}'
    assert collector.runs == [(REGISTRY, job.id)]


async def test_a_second_start_is_given_the_job_that_runs(store: Store) -> None:
    collector = FakeCollector()
    jobs, elsewhere = make_jobs(store.core, collector), make_jobs(store.core, collector)
    first = await jobs.start(REGISTRY)
    others = await asyncio.gather(*[one.start(REGISTRY) for one in (jobs, elsewhere, jobs, elsewhere)])
    await collector.told.wait()
    assert {other.id for other in others} == {first.id}
    assert len(collector.runs) == 1
    collector.go_on.set()
    await ended(jobs, first)
    assert (await jobs.start(REGISTRY)).id != first.id
    await jobs.close()


async def test_each_registry_has_its_own_job(store: Store) -> None:
    jobs = make_jobs(store.core, FakeCollector())
    mine, other = await jobs.start(REGISTRY), await jobs.start("reg_other")
    with pytest.raises(RegistryError) as refused:
        await jobs.get("reg_other", mine.id)
    assert (mine.id != other.id, refused.value.code) == (True, ErrorCode.NOT_FOUND)
    await jobs.close()


async def test_a_job_that_ran_when_the_process_ended_is_resumed_under_its_id(store: Store) -> None:
    before, after = FakeCollector(), FakeCollector()
    first, second = make_jobs(store.core, before), make_jobs(store.core, after)
    job = await first.start(REGISTRY)
    await before.told.wait()
    await first.close()
    left = await second.get(REGISTRY, job.id)
    await second.resume()
    after.go_on.set()
    done = await ended(second, job)
    assert (left.status, done.status) == (JobStatus.RUNNING, JobStatus.COMPLETED)
    assert after.runs == [(REGISTRY, job.id)]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (StoreFailed("/secret/path: input/output error"), "the store failed"),
        (DatabaseFailed("/secret/path: malformed"), "the catalog failed"),
        (ZeroDivisionError("/secret/path"), "internal error"),
    ],
)
async def test_a_collection_that_fails_says_so_without_a_path(store: Store, failure: Exception, said: str) -> None:
    collector = FakeCollector(failure)
    jobs = make_jobs(store.core, collector)
    job = await jobs.start(REGISTRY)
    collector.go_on.set()
    failed = await ended(jobs, job)
    assert (failed.status, failed.phase) == (JobStatus.FAILED, "links")
    assert failed.error is not None
    assert failed.error.startswith(said)
    assert "secret" not in failed.error
    assert failed.completed_at is not None
    assert store.core.health.failure is None


async def test_a_sync_that_failed_in_a_collection_ends_readiness(store: Store) -> None:
    collector = FakeCollector(StoreFailed("fsync", fatal=True))
    jobs = make_jobs(store.core, collector)
    job = await jobs.start(REGISTRY)
    collector.go_on.set()
    await ended(jobs, job)
    assert store.core.health.failure is not None


async def test_a_job_whose_end_cannot_be_written_is_left_to_the_next_process(store: Store) -> None:
    collector = FakeCollector()

    class Refusing:
        """The catalog, until the collection has told its progress."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store.core.db, name)

        async def write(self, body: Any) -> Any:
            if collector.told.is_set():
                raise DatabaseFailed("disk is full", full=True)
            return await store.core.db.write(body)

    jobs = make_jobs(replace(store.core, db=Refusing()), collector)  # type: ignore[arg-type]
    job = await jobs.start(REGISTRY)
    await collector.told.wait()
    (task,) = jobs._tasks.values()
    collector.go_on.set()
    await task  # it has nobody to raise to
    assert (await jobs.get(REGISTRY, job.id)).status is JobStatus.RUNNING


async def test_a_registry_that_is_gone_or_going_is_not_collected(store: Store) -> None:
    async def leave(tx: Transaction) -> None:
        await registries.mark_deleting(tx, REGISTRY, 1)

    await store.core.db.write(leave)
    collector = FakeCollector()
    jobs = make_jobs(store.core, collector)
    codes = []
    for registry_id in (REGISTRY, "reg_absent"):
        with pytest.raises(RegistryError) as refused:
            await jobs.start(registry_id)
        codes.append(refused.value.code)
    assert (codes, collector.runs) == ([ErrorCode.NOT_FOUND] * 2, [])


async def test_a_registry_that_is_still_being_made_is_not_ready(store: Store) -> None:
    async def unmake(tx: Transaction) -> None:
        await tx.execute("UPDATE registries SET status = 'creating' WHERE id = $1", REGISTRY)

    await store.core.db.write(unmake)
    with pytest.raises(RegistryError) as refused:
        await make_jobs(store.core, FakeCollector()).start(REGISTRY)
    assert refused.value.code is ErrorCode.NOT_READY
