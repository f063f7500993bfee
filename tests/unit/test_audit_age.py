"""The audit log keeps a line for its set time, counted in epochs, and forgets it then; so do events."""

from pathlib import Path

from regserver.storage.catalog import clock
from support.store import Store, opened_store, pusher, target


async def lines(store: Store) -> int:
    return int((await store.core.db.fetch("SELECT count(*) FROM audit"))[0][0])


async def test_a_line_is_forgotten_after_its_days_and_not_before(tmp_path: Path) -> None:
    async with opened_store(tmp_path, audit_days=1, epoch_seconds=3600) as store:
        await store.push_image(target(), b"layer", who=pusher("alice"))
        written = await lines(store)
        assert written > 0
        await store.pass_epochs(25)  # a day of 24 epochs, and one for the edge
        assert await store.housekeeping.expire_audit() == 0
        await store.pass_epochs(1)
        assert await store.housekeeping.expire_audit() == written
        assert await lines(store) == 0
        assert await clock.epoch(store.core.db) == 27


async def events(store: Store) -> list[int]:
    return [int(row[0]) for row in await store.core.db.fetch("SELECT id FROM events ORDER BY id")]


async def test_an_event_is_forgotten_after_its_days_but_for_the_newest(tmp_path: Path) -> None:
    async with opened_store(tmp_path, event_days=1, epoch_seconds=3600) as store:
        for content in (b"one", b"two"):
            await store.push_image(target(), content, who=pusher("alice"))
        first, last = await events(store)
        await store.pass_epochs(25)
        assert await store.housekeeping.expire_events() == 0
        await store.pass_epochs(1)
        assert await store.housekeeping.expire_events() == 1
        assert await events(store) == [last] != [first]


async def test_of_too_many_events_the_latest_are_kept(tmp_path: Path) -> None:
    async with opened_store(tmp_path, event_count=3) as store:
        for number in range(6):
            await store.push_image(target(), b"%d" % number, who=pusher("alice"))
        before = await events(store)
        assert await store.housekeeping.expire_events() == 3
        assert await events(store) == before[3:]
