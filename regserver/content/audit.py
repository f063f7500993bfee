"""The audit log as people read it: its lines are written where the changes are, and end in housekeeping."""

from __future__ import annotations

from regserver.content.core import Core
from regserver.storage.catalog import audit
from regserver.storage.catalog.audit import EventFilter, EventPage
from regserver.storage.sql.port import Reader


class Audit:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def page(self, chosen: EventFilter, limit: int, offset: int) -> EventPage:
        """The newest first; see ``catalog.audit.page``."""

        async def body(reader: Reader) -> EventPage:
            return await audit.page(reader, chosen, limit, offset)

        return await self._core.db.read(body)
