"""A deleted registry goes whole, in bounded steps, however often it is interrupted, and takes nobody else's along."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regserver.content import purge as purging
from regserver.content.collector import Collector
from regserver.content.purge import Purge
from regserver.model.digest import Algorithm
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import registries
from regserver.storage.sql.port import DatabaseFailed, Transaction
from support.memory_blobs import MemoryBlobStore
from support.registry import PATIENCE_SECONDS, until
from support.store import Store, image, index, opened_store, pusher, target

MINE, OTHER = target("my/api"), target("other/api")
SHARED = b"a layer of both"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, allow_sparse=True) as opened:
        yield opened


async def fill(store: Store) -> None:
    """Puts rows into every table that a registry can have rows in, and one image beside it."""
    child = await store.push_image(MINE, SHARED, b"only mine")
    await store.push(MINE, index(child, image(b"absent")), "index")
    await store.push(MINE, image(SHARED, annotations={"held": "by a lease"}))
    await store.push_image(target("my/second"), b"another layer")
    await store.push_blob(MINE, b"held by a lease")
    await store.uploads.start(MINE, pusher(), Algorithm.SHA256)
    await store.push_image(OTHER, SHARED)
    await store.core.db.write(note_job)


async def note_job(tx: Transaction) -> None:
    await tx.execute(
        "INSERT INTO gc_jobs (id, registry_id, status, phase, started_at)"
        " VALUES ('gc_1', 'reg_my', 'completed', 'done', 0)"
    )


async def leave(store: Store) -> None:
    async def body(tx: Transaction) -> None:
        await registries.mark_deleting(tx, "reg_my", 1)

    await store.core.db.write(body)


async def remains(store: Store) -> dict[str, int]:
    """Rows per table, the tables that `Store.counts` leaves out included, and files."""
    more = {
        table: (await store.core.db.fetch(f"SELECT count(*) FROM {table}"))[0][0]
        for table in ("registries", "repositories", "tag_events", "gc_jobs")
    }
    return {**await store.counts(), **more, "files": await store.files()}


async def purged(store: Store) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await remains(store))["registries"] > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def alone(folder: Path) -> dict[str, int]:
    """What the other registry's image comes to where nothing else ever was."""
    folder.mkdir()
    async with opened_store(folder) as fresh:
        await fresh.push_image(OTHER, SHARED)
        await leave(fresh)
        await Purge(fresh.core, fresh.collector).run_once()
        return await remains(fresh)


async def test_a_purge_leaves_nothing_of_the_registry_and_all_of_the_others(store: Store, tmp_path: Path) -> None:
    await fill(store)
    filled = await remains(store)
    assert {*filled} >= {"uploads", "blob_leases", "manifest_leases", "missing_references", "manifest_children"}
    await leave(store)
    assert await Purge(store.core, store.collector).run_once() == 1
    assert await remains(store) == await alone(tmp_path / "alone")
    assert await store.counter_error("reg_other") == 0


async def test_a_registry_that_is_not_deleting_is_left_alone(store: Store) -> None:
    await fill(store)
    before = await remains(store)
    assert await Purge(store.core, store.collector).run_once() == 0
    assert await remains(store) == before


class Ending:
    """A catalog whose process ends at its n-th write: before it, or after its commit."""

    def __init__(self, database: Any, writes: int, *, committed: bool) -> None:
        self._database = database
        self._left = writes
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, body: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            return await self._database.write(body)
        if self._committed:
            await self._database.write(body)
        raise DatabaseFailed("the process has ended here")


async def ends_at(folder: Path, writes: int, *, committed: bool) -> tuple[bool, dict[str, int]]:
    """A purge whose process ends at that write, and another process after it. Did it end so, and what remains?"""
    folder.mkdir()
    async with opened_store(folder, allow_sparse=True) as store:
        await fill(store)
        await leave(store)
        core = replace(store.core, db=Ending(store.core.db, writes, committed=committed))  # type: ignore[arg-type]
        ended = False
        try:
            await Purge(core, Collector(core)).run_once()
        except DatabaseFailed:
            ended = True
        await Purge(store.core, store.collector).run_once()
        return ended, await remains(store)


@pytest.mark.parametrize("committed", [False, True])
async def test_a_purge_goes_on_wherever_the_process_before_it_ended(tmp_path: Path, committed: bool) -> None:
    expected, writes, ended = await alone(tmp_path / "alone"), 0, True
    while ended and writes < 100:
        ended, remaining = await ends_at(tmp_path / str(writes), writes, committed=committed)
        assert remaining == expected, f"after {writes} writes"
        writes += 1
    assert (ended, writes > 10) == (False, True)


async def test_no_transaction_of_a_purge_takes_more_than_its_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    await fill(store)
    await leave(store)
    largest = 0

    class Measuring:
        def __getattr__(self, name: str) -> Any:
            return getattr(store.core.db, name)

        async def write(self, body: Any) -> Any:
            nonlocal largest
            before = sum((await remains(store)).values())
            result = await store.core.db.write(body)
            largest = max(largest, before - sum((await remains(store)).values()))
            return result

    core = replace(store.core, db=Measuring())  # type: ignore[arg-type]
    await Purge(core, store.collector).run_once()
    assert largest == 2


async def test_a_purge_in_the_background_is_woken_and_outlives_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "RETRY_SECONDS", 0.01)
    blobs = store.core.blobs
    assert isinstance(blobs, MemoryBlobStore)
    await fill(store)
    await leave(store)
    blobs.failures["remove"] = StoreFailed("busy")
    stop, purge = asyncio.Event(), Purge(store.core, store.collector)
    running = asyncio.create_task(purge.run(stop))
    await purged(store)
    assert blobs.failures == {}
    assert store.core.health.failure is None
    stop.set()
    await running


async def test_a_purge_is_woken_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "RETRY_SECONDS", 3600)
    stop, purge = asyncio.Event(), Purge(store.core, store.collector)
    running = asyncio.create_task(purge.run(stop))
    for _ in range(100):
        await asyncio.sleep(0)
    await leave(store)
    purge.wake()
    await purged(store)
    stop.set()
    await running


async def test_a_sync_that_failed_in_a_purge_ends_readiness(store: Store) -> None:
    blobs = store.core.blobs
    assert isinstance(blobs, MemoryBlobStore)
    await fill(store)
    await leave(store)
    blobs.failures["remove"] = StoreFailed("fsync", fatal=True)
    stop = asyncio.Event()
    running = asyncio.create_task(Purge(store.core, store.collector).run(stop))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await until(lambda: store.core.health.failure is not None)
    stop.set()
    await running
    assert (await remains(store))["registries"] == 2
