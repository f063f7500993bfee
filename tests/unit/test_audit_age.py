"""The audit log keeps a line for its set time, counted in epochs, and forgets it then."""

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
