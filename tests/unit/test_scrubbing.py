"""The scrub in the background: when it is due, where it goes on, how it ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.pace import Stopping, at_once
from regserver.content.scrubbing import BackgroundScrub
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import scrub
from regserver.storage.sql.port import Transaction
from support.memory_blobs import MemoryBlobStore
from support.store import Store, opened_store, target

HERE = target("my/api")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, MemoryBlobStore()) as opened:
        yield opened


def background(store: Store, pause: float = 0) -> BackgroundScrub:
    return BackgroundScrub(store.core, store.collector, pause=pause)


async def latest(store: Store) -> scrub.PassRow:
    row = await scrub.latest_pass(store.core.db)
    assert row is not None
    return row


async def move_end(store: Store, milliseconds: int) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute("UPDATE scrub SET ended_at = ended_at + $1", milliseconds)

    await store.core.db.write(body)


async def push_blobs(store: Store, count: int) -> list[bytes]:
    contents = [b"blob %d" % number for number in range(count)]
    for content in contents:
        await store.push_blob(HERE, content)
    return contents


async def test_a_pass_reads_everything_and_the_next_one_waits_for_its_interval(store: Store) -> None:
    contents = await push_blobs(store, 3)
    assert await background(store).run_if_due(at_once, asyncio.Event())
    row = await latest(store)
    assert (row.phase, row.blobs, row.bytes, row.bytes_total) == (None, 3, *[sum(map(len, contents))] * 2)
    assert row.ended_at is not None
    assert not await background(store).run_if_due(at_once, asyncio.Event())
    assert await latest(store) == row
    await move_end(store, -7 * 86400 * 1000)
    assert await background(store).run_if_due(at_once, asyncio.Event())


async def test_a_wall_clock_that_was_set_back_does_not_put_the_next_pass_off(store: Store) -> None:
    await background(store).run_if_due(at_once, asyncio.Event())
    await move_end(store, 365 * 86400 * 1000)
    assert await background(store).run_if_due(at_once, asyncio.Event())


async def test_a_pass_goes_on_where_the_last_process_left_it(store: Store) -> None:
    contents = await push_blobs(store, 150)
    stop = asyncio.Event()
    read = 0

    async def until_it_stops(count: int) -> None:
        nonlocal read
        read += count
        stop.set()

    assert not await background(store).run_if_due(until_it_stops, stop)
    left = await latest(store)
    assert (left.phase, left.blobs) == ("blobs", 100)

    async def count_on(count: int) -> None:
        nonlocal read
        read += count

    assert await background(store).run_if_due(count_on, asyncio.Event())
    row = await latest(store)
    assert (row.blobs, row.started_at) == (150, left.started_at)
    assert read == row.bytes == sum(map(len, contents))


async def test_a_step_that_was_cut_off_is_done_again(store: Store) -> None:
    await push_blobs(store, 3)

    async def stop_in_the_middle(_: int) -> None:
        raise Stopping

    with pytest.raises(Stopping):
        await background(store).run_if_due(stop_in_the_middle, asyncio.Event())
    assert await background(store).run_if_due(at_once, asyncio.Event())
    assert (await latest(store)).blobs == 3


async def test_a_failure_ends_neither_the_server_nor_the_pass(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await push_blobs(store, 3)
    blobs = store.core.blobs
    assert isinstance(blobs, MemoryBlobStore)
    blobs.failures["rehash"] = StoreFailed("too many open files")
    stop = asyncio.Event()
    running = asyncio.create_task(background(store).run(stop))
    while (row := await scrub.latest_pass(store.core.db)) is None or row.phase is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    stop.set()
    await running
    assert row.blobs == 3
    assert "too many open files" in caplog.text


async def test_a_rate_of_zero_turns_it_off(tmp_path: Path) -> None:
    async with opened_store(tmp_path, scrub_bytes_per_second=0) as store:
        await background(store).run(asyncio.Event())
        assert await scrub.latest_pass(store.core.db) is None


async def test_a_sync_that_failed_ends_readiness(store: Store) -> None:
    await push_blobs(store, 1)
    blobs = store.core.blobs
    assert isinstance(blobs, MemoryBlobStore)
    blobs.failures["sync_removals"] = StoreFailed("sync: input/output error", fatal=True)
    stop = asyncio.Event()
    running = asyncio.create_task(background(store).run(stop))
    while store.core.health.failure is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    stop.set()
    await running


async def test_progress_within_a_step_is_shown_and_a_step_ends_after_ten_seconds_of_reading(tmp_path: Path) -> None:
    async with opened_store(tmp_path, MemoryBlobStore(), scrub_bytes_per_second=1) as store:
        await push_blobs(store, 4)  # six bytes each
        scrubs, shown = background(store), []

        async def look(_: int) -> None:
            row = (await scrubs.standing()).row
            assert row is not None
            shown.append((row.bytes, (await latest(store)).bytes))

        assert await scrubs.run_if_due(look, asyncio.Event())
        assert shown == [(6, 0), (12, 0), (18, 12), (24, 12)]
        after = (await scrubs.standing()).row
        assert after == await latest(store)
