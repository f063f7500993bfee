"""Jobs with the collector itself: asked for again, cancelled, cut off and resumed, and what they count."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regserver.content import collector as collecting
from regserver.content.collector import Collector, Listener, Progress, Report
from regserver.content.jobs import CANCELLED, Jobs
from regserver.errors import ErrorCode, RegistryError
from regserver.model.audit import Actor
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.catalog.jobs import JobRow, JobStatus
from support.registry import PATIENCE_SECONDS
from support.store import Store, image, opened_store, pusher, target

HERE = target("my/api")
REGISTRY = "reg_my"
ALICE, SCHEDULE = Actor("alice"), Actor("schedule")


class Watched(Collector):
    """A collector; ``at`` a phase something happens first, each time it comes there until it has no more to do."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.core)
        self.at: dict[str, list[Callable[[], Awaitable[Any]]]] = {}
        self.patience: list[bool] = []

    async def collect(
        self,
        registry_id: str,
        progress: Listener | None = None,
        *,
        job_id: str | None = None,
        patient: bool = False,
        loose: bool = True,
    ) -> Report:
        async def tell(at: Progress) -> None:
            if self.at.get(at.phase):
                await self.at[at.phase].pop(0)()
            if progress is not None:
                await progress(at)

        self.patience.append(patient)
        return await super().collect(registry_id, tell, job_id=job_id, patient=patient, loose=loose)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def collector(store: Store) -> Watched:
    return Watched(store)


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MANIFESTS", 1)
    monkeypatch.setattr(collecting, "BATCH", 1)


async def ended(jobs: Jobs, job: JobRow) -> JobRow:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await jobs.until_ended(job)
    return await jobs.get(job.registry_id, job.id)


async def nothing() -> None:
    return


async def push_and_untag(store: Store, *tags: str) -> None:
    """Images of their own, and then no tag on them."""
    for tag in tags:
        await store.push_image(HERE, tag.encode(), tag=tag)
    for tag in tags:
        await store.manifests.untag(HERE, pusher(), Tag(tag))


async def test_what_is_deleted_while_a_job_runs_is_freed_by_it_when_it_is_asked_for_again(
    store: Store, collector: Watched
) -> None:
    """However late it is: the manifests have all been looked at when the tag goes."""
    await store.push_image(HERE, b"layer", tag="v1")
    jobs = Jobs(store.core, collector)
    again: list[JobRow] = []

    async def delete_and_ask() -> None:
        await store.manifests.untag(HERE, pusher(), Tag("v1"))
        again.append(await jobs.start(REGISTRY, ALICE))

    collector.at["links"] = [delete_and_ask]
    job = await jobs.start(REGISTRY, ALICE)
    done = await ended(jobs, job)
    assert [other.id for other in again] == [job.id]
    assert (done.status, done.manifests_deleted, done.blobs_deleted) == (JobStatus.COMPLETED, 1, 2)
    assert done.bytes_freed == len(b"layer") + len(b"{}")
    assert await store.files() == 0


async def test_a_job_that_nobody_asked_for_again_goes_round_once(store: Store, collector: Watched) -> None:
    jobs = Jobs(store.core, collector)
    await ended(jobs, await jobs.start(REGISTRY, ALICE))
    assert collector.patience == [False]


async def test_somebody_who_asks_while_the_schedules_job_runs_waits_for_no_undo_window(
    store: Store, collector: Watched
) -> None:
    await push_and_untag(store, "v1")
    jobs = Jobs(store.core, collector)

    async def ask() -> None:
        await jobs.start(REGISTRY, ALICE)

    collector.at["links"] = [ask]
    done = await ended(jobs, await jobs.start(REGISTRY, SCHEDULE, patient=True))
    assert collector.patience == [True, False]
    assert (done.status, done.manifests_deleted) == (JobStatus.COMPLETED, 1)
    assert await store.files() == 0


async def test_the_schedule_adds_nothing_to_a_job_that_runs(store: Store, collector: Watched) -> None:
    await push_and_untag(store, "v1")
    jobs = Jobs(store.core, collector)

    async def schedule() -> None:
        await jobs.start(REGISTRY, SCHEDULE, patient=True)

    collector.at["links"] = [schedule]
    done = await ended(jobs, await jobs.start(REGISTRY, ALICE))
    assert (collector.patience, done.started_by, done.asked) == ([False], "alice", 1)


async def test_a_cancelled_job_ends_before_its_next_batch_and_keeps_what_it_did(
    store: Store, collector: Watched, one_at_a_time: None
) -> None:
    await push_and_untag(store, "v1", "v2", "v3")
    jobs, elsewhere = Jobs(store.core, collector), Jobs(store.core, Collector(store.core))
    job = await jobs.start(REGISTRY, ALICE)

    async def cancel() -> None:
        cancelled = await elsewhere.cancel(REGISTRY, job.id, Actor("bob"))
        assert (cancelled.status, cancelled.cancelled_by) == (JobStatus.FAILED, "bob")

    collector.at["manifests"] = [nothing, cancel]
    done = await ended(jobs, job)
    assert (done.status, done.phase, done.error) == (JobStatus.FAILED, "manifests", CANCELLED)
    assert (done.manifests_deleted, done.cancelled_by) == (1, "bob")
    assert (await store.counts())["manifests"] == 2
    assert (await jobs.cancel(REGISTRY, job.id, ALICE)).cancelled_by == "bob"
    actions = await store.core.db.fetch("SELECT actor, reference FROM audit WHERE action = 'gc.cancel'")
    assert actions == [("bob", job.id)]
    after = await ended(jobs, await jobs.start(REGISTRY, ALICE))
    assert (after.status, after.manifests_deleted) == (JobStatus.COMPLETED, 2)
    assert await store.files() == 0


async def test_a_job_can_be_cancelled_between_any_two_batches_of_links(
    store: Store, collector: Watched, one_at_a_time: None
) -> None:
    await store.pass_epochs(1)
    for number in range(3):
        await store.push_blob(HERE, b"%d" % number)
    await store.pass_epochs(1000)
    jobs = Jobs(store.core, collector)
    job = await jobs.start(REGISTRY, ALICE)

    async def cancel() -> None:
        await jobs.cancel(REGISTRY, job.id, ALICE)

    collector.at["links"] = [cancel]
    await ended(jobs, job)
    assert (await store.counts())["repository_blobs"] == 2


async def test_a_job_is_cancelled_only_in_its_registry(store: Store, collector: Watched) -> None:
    jobs = Jobs(store.core, collector)
    job = await ended(jobs, await jobs.start(REGISTRY, ALICE))
    assert await jobs.cancel(REGISTRY, job.id, ALICE) == job
    for registry_id, job_id in (("reg_other", job.id), (REGISTRY, "gc_absent")):
        with pytest.raises(RegistryError) as refused:
            await jobs.cancel(registry_id, job_id, ALICE)
        assert refused.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("phase", ["manifests", "links", "blobs", "files"])
async def test_a_job_that_was_cut_off_counts_everything_once_when_it_is_resumed(
    store: Store, collector: Watched, one_at_a_time: None, phase: str
) -> None:
    await push_and_untag(store, "v1", "v2", "v3")
    held, reached = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await held.wait()

    collector.at[phase] = [hang]
    first = Jobs(store.core, collector)
    job = await first.start(REGISTRY, ALICE)
    await reached.wait()
    await first.close()
    left = await first.get(REGISTRY, job.id)
    second = Jobs(store.core, Collector(store.core))
    await second.resume()
    done = await ended(second, job)
    assert (left.status, done.status) == (JobStatus.RUNNING, JobStatus.COMPLETED)
    assert (done.manifests_deleted, done.blobs_deleted) == (3, 4)  # three layers and the config
    assert done.bytes_freed == len(b"v1v2v3{}")
    assert await store.files() == 0


async def test_a_job_of_the_schedule_that_was_cut_off_takes_the_blobs_whose_links_it_had_dropped(
    store: Store, collector: Watched
) -> None:
    await store.push_blob(HERE, b"deleted by name")
    await store.blobs.delete(HERE, pusher(), Digest.of(b"deleted by name"))
    held, reached = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await held.wait()

    collector.at["links"] = [hang]
    first = Jobs(store.core, collector)
    job = await first.start(REGISTRY, SCHEDULE, patient=True)
    await reached.wait()
    await first.close()
    second = Jobs(store.core, Collector(store.core))
    await second.resume()
    assert (await ended(second, job)).blobs_deleted == 1


async def test_a_resumed_job_is_as_patient_as_it_was(store: Store, collector: Watched) -> None:
    await push_and_untag(store, "v1")
    jobs = Jobs(store.core, collector)
    await jobs.close()
    job = await jobs.start(REGISTRY, SCHEDULE, patient=True)
    assert not await jobs.until_ended(job)  # nothing is begun in a process that ends
    second = Jobs(store.core, Collector(store.core))
    await second.resume()
    done = await ended(second, job)
    assert (done.status, done.manifests_deleted, done.patient) == (JobStatus.COMPLETED, 0, True)
    assert await store.manifests.stat(HERE, pusher(), Digest.of(image(b"v1")))


async def test_progress_says_of_how_many(store: Store, collector: Watched, one_at_a_time: None) -> None:
    await push_and_untag(store, "v1", "v2", "v3")
    seen: list[Progress] = []

    async def note(progress: Progress) -> None:
        seen.append(progress)

    await collector.collect(REGISTRY, note)
    assert [(at.done, at.total) for at in seen if at.phase == "manifests"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {(at.done, at.total) for at in seen if at.phase == "links"} == {(1, 1)}
