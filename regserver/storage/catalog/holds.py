"""Holds on the trash: while one lives, what the trash names is not unlinked (``garbage.trashed``).

Whoever copies the catalog and reads the files that the copy names takes one first (lemma L16 of docs/gc-proof.md).
"""

from __future__ import annotations

from regserver.storage.catalog import clock
from regserver.storage.sql.port import Transaction

_RENEW = "INSERT INTO trash_holds (id, epoch) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch"


async def renew(tx: Transaction, hold_id: str) -> None:
    """Takes the hold, or begins its time anew; one that was forgotten meanwhile is taken again."""
    await tx.execute(_RENEW, hold_id, await clock.epoch(tx))


_RELEASE = "DELETE FROM trash_holds WHERE id = $1"


async def release(tx: Transaction, hold_id: str) -> None:
    await tx.execute(_RELEASE, hold_id)


_EXPIRE = "DELETE FROM trash_holds WHERE epoch < $1"


async def expire(tx: Transaction, floor: int) -> int:
    """Forgets holds that were not renewed since the epoch ``floor``; they hold nothing any more. Returns how many."""
    return await tx.execute(_EXPIRE, floor)
