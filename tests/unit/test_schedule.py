"""Collections that nobody asks for: when they are due, what they leave, where they show."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regserver.content.jobs import Jobs
from regserver.content.schedule import KEPT, CollectionSchedule
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.model.times import now_ms
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import registries
from regserver.storage.catalog.jobs import JobRow, JobStatus
from regserver.storage.sql.port import Transaction
from support.memory_blobs import MemoryBlobStore
from support.store import Store, image, opened_store, pusher, target

HERE, THERE = target("my/api"), target("other/web")
REGISTRY = "reg_my"
GOING = asyncio.Event()  # never set


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, MemoryBlobStore(), undo_seconds=3600) as opened:
        yield opened


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store.core, store.collector)


@pytest.fixture
def schedule(store: Store, jobs: Jobs) -> CollectionSchedule:
    return CollectionSchedule(store.core, store.collector, jobs, pause=0)


async def jobs_of(jobs: Jobs, registry_id: str = REGISTRY) -> list[JobRow]:
    return (await jobs.page(registry_id, 100, 0))[0]


async def change(store: Store, sql: str, *args: Any) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(sql, *args)

    await store.core.db.write(body)


async def wait_a_day(store: Store) -> None:
    await change(store, "UPDATE registries SET collected_at = collected_at - 86400000")


async def test_every_registry_is_collected_once_a_day(store: Store, schedule: CollectionSchedule, jobs: Jobs) -> None:
    assert await schedule.run_due(GOING) == 2
    assert await schedule.run_due(GOING) == 0
    for registry_id in (REGISTRY, "reg_other"):
        (job,) = await jobs_of(jobs, registry_id)
        assert (job.status, job.started_by, job.patient) == (JobStatus.COMPLETED, "schedule", True)
    await wait_a_day(store)
    assert await schedule.run_due(GOING) == 2


async def test_a_new_registry_waits_for_its_first_day(store: Store, schedule: CollectionSchedule, jobs: Jobs) -> None:
    async def body(tx: Transaction) -> None:
        active = registries.Status.ACTIVE
        await registries.insert(tx, "reg_new", "new", status=active, public=False, quota_bytes=None, now=now_ms())

    await store.core.db.write(body)
    await schedule.run_due(GOING)
    assert await jobs_of(jobs, "reg_new") == []


async def test_a_collection_that_somebody_asked_for_puts_the_next_one_off(
    schedule: CollectionSchedule, jobs: Jobs
) -> None:
    await jobs.until_ended(await jobs.start(REGISTRY))
    assert await schedule.run_due(GOING) == 1
    assert len(await jobs_of(jobs)) == 1


async def test_a_clock_that_was_set_back_stops_no_collection(store: Store, schedule: CollectionSchedule) -> None:
    await change(store, "UPDATE registries SET collected_at = 9000000000000")
    assert await schedule.run_due(GOING) == 2
    assert await schedule.run_due(GOING) == 0


async def test_what_can_be_undone_stays_until_its_window_has_passed(
    store: Store, schedule: CollectionSchedule, jobs: Jobs
) -> None:
    await store.push_image(HERE, b"layer")
    digest = Digest.of(image(b"layer"))
    await store.manifests.untag(HERE, pusher(), Tag("v1"))
    await schedule.run_due(GOING)
    assert (await jobs_of(jobs))[0].manifests_deleted == 0
    assert (await store.manifests.get(HERE, pusher(), digest))[0].digest == digest
    await store.pass_epochs(store.core.epochs(max(3600, store.core.settings.lease_seconds)) + 1)
    await wait_a_day(store)
    await schedule.run_due(GOING)
    job = (await jobs_of(jobs))[0]
    assert (job.manifests_deleted, job.blobs_deleted, job.bytes_freed) == (1, 2, len(b"layer{}"))
    assert await store.files() == 0


async def test_a_collection_that_somebody_asks_for_frees_at_once_what_could_be_undone(store: Store, jobs: Jobs) -> None:
    await store.push_image(HERE, b"layer")
    await store.manifests.untag(HERE, pusher(), Tag("v1"))
    job = await jobs.start(REGISTRY)
    await jobs.until_ended(job)
    assert (await jobs.get(REGISTRY, job.id)).manifests_deleted == 1
    assert await store.files() == 0


async def test_a_blob_that_lost_its_last_link_by_name_goes_with_the_schedule(
    store: Store, schedule: CollectionSchedule
) -> None:
    await store.push_blob(HERE, b"deleted by name")
    await store.blobs.delete(HERE, pusher(), Digest.of(b"deleted by name"))
    await schedule.run_due(GOING)
    assert await store.counts() == {}
    assert await store.files() == 0


async def test_a_job_that_runs_already_is_left_alone(store: Store, schedule: CollectionSchedule, jobs: Jobs) -> None:
    ended = Jobs(store.core, store.collector)
    await ended.close()
    left = await ended.start(REGISTRY)  # another process has it
    await wait_a_day(store)
    assert await schedule.run_due(GOING) == 1  # the other registry
    assert [job.id for job in await jobs_of(jobs)] == [left.id]
    scheduled = await ended.start("reg_other", patient=True)
    await wait_a_day(store)
    assert await schedule.run_due(GOING) == 0
    assert (await jobs.get("reg_other", scheduled.id)).status is JobStatus.RUNNING


async def test_a_registry_that_is_being_deleted_is_not_collected(store: Store, schedule: CollectionSchedule) -> None:
    await change(store, "UPDATE registries SET status = 'deleting' WHERE id = $1", REGISTRY)
    assert await schedule.run_due(GOING) == 1


async def test_old_scheduled_jobs_are_forgotten_and_others_stay(
    store: Store, schedule: CollectionSchedule, jobs: Jobs
) -> None:
    asked = await jobs.start(REGISTRY)
    await jobs.until_ended(asked)
    for _ in range(KEPT + 2):
        await wait_a_day(store)
        await schedule.run_due(GOING)
    found = await jobs_of(jobs)
    assert len(found) == KEPT + 1
    assert found[-1].id == asked.id


async def test_it_begins_nothing_more_once_the_server_stops(schedule: CollectionSchedule, jobs: Jobs) -> None:
    stop = asyncio.Event()
    stop.set()
    assert await schedule.run_due(stop) == 0
    assert await jobs_of(jobs) == []


async def test_it_runs_until_it_is_stopped_and_a_failure_does_not_end_it(
    store: Store, schedule: CollectionSchedule, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    await store.push_blob(HERE, b"deleted by name")
    await store.blobs.delete(HERE, pusher(), Digest.of(b"deleted by name"))
    blobs = store.core.blobs
    assert isinstance(blobs, MemoryBlobStore)
    blobs.failures["remove"] = StoreFailed("input/output error")
    stop = asyncio.Event()
    running = asyncio.create_task(schedule.run(stop))
    while await store.files():
        await wait_a_day(store)
        await asyncio.sleep(0)
    stop.set()
    await running
    assert {job.status for job in await jobs_of(jobs)} <= {JobStatus.COMPLETED, JobStatus.FAILED}


async def test_an_interval_of_zero_turns_it_off(tmp_path: Path) -> None:
    async with opened_store(tmp_path, MemoryBlobStore(), collect_interval_seconds=0) as store:
        jobs = Jobs(store.core, store.collector)
        await CollectionSchedule(store.core, store.collector, jobs, pause=0).run(GOING)
        assert await jobs_of(jobs) == []
