"""The audit log as people read it: its lines are written where the changes are, and end in housekeeping."""

from __future__ import annotations

from regserver.content.core import Core
from regserver.storage.catalog import audit
from regserver.storage.catalog.audit import EventFilter, EventRow
from regserver.storage.sql.port import Reader


class Audit:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def page(self, chosen: EventFilter, limit: int, offset: int) -> tuple[list[EventRow], int, bool]:
        """(lines, how many there are, whether older ones follow), the newest first; see ``catalog.audit.page``."""

        async def body(reader: Reader) -> tuple[list[EventRow], int, bool]:
            return await audit.page(reader, chosen, limit, offset)

        return await self._core.db.read(body)
