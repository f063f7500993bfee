"""The audit log as people read it, and as it ends: its lines are written where the changes are."""

from __future__ import annotations

from regserver.content.core import Core
from regserver.storage.catalog import audit, clock
from regserver.storage.catalog.audit import EventFilter, EventRow
from regserver.storage.sql.port import Reader, Transaction

BATCH = 500  # lines in one transaction, so that a pushing client never waits long for the writer
DAY_SECONDS = 86400


class Audit:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def page(self, chosen: EventFilter, limit: int, offset: int) -> tuple[list[EventRow], int, bool]:
        """(lines, how many there are, whether older ones follow), the newest first; see ``catalog.audit.page``."""

        async def body(reader: Reader) -> tuple[list[EventRow], int, bool]:
            return await audit.page(reader, chosen, limit, offset)

        return await self._core.db.read(body)

    async def expire(self) -> int:
        """Takes away what is older than it is to be kept, and returns how much that was."""
        count, age = 0, self._core.epochs(self._core.settings.audit_days * DAY_SECONDS)
        while await audit.aged(self._core.db, await clock.epoch(self._core.db) - age, BATCH):

            async def body(tx: Transaction) -> int:
                return await audit.expire(tx, await clock.epoch(tx) - age, BATCH)

            count += await self._core.db.write(body)
        return count
