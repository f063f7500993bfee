"""Holding the trash: for as long as somebody reads files that a copied catalog names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from regserver.model.ids import new_id
from regserver.storage.catalog import holds
from regserver.storage.sql.port import Database, DatabaseFailed, Transaction

RENEW_SECONDS = 60.0  # a tenth of what a hold lives without it


@asynccontextmanager
async def held_trash(db: Database) -> AsyncIterator[None]:
    """Nothing that is condemned from now on is unlinked, by any process, until this ends or has died.

    Order (L16): the hold commits, then the catalog is copied, then the files that the copy names are read. A key that
    the copy has in ``blobs`` gets into the trash after the copy, so whoever sees it there sees the hold too.
    """
    hold_id = new_id("hold")
    await db.write(partial(_renew, hold_id))
    renewing = asyncio.create_task(_keep(db, hold_id))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(DatabaseFailed):  # then it ends by itself
            await db.write(partial(_release, hold_id))


async def _keep(db: Database, hold_id: str) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        with suppress(DatabaseFailed):  # the next turn comes before the hold has ended
            await db.write(partial(_renew, hold_id))


async def _renew(hold_id: str, tx: Transaction) -> None:
    await holds.renew(tx, hold_id)


async def _release(hold_id: str, tx: Transaction) -> None:
    await holds.release(tx, hold_id)
