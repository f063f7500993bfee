"""What ``/metrics`` shows of the catalog and the disk: asked for seldom, however often somebody scrapes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from regserver.content.core import Core
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import events, figures
from regserver.storage.catalog.figures import Figures
from regserver.storage.sql.port import DatabaseFailed, Reader

FRESH_SECONDS = 10.0  # for which the counts stand
BLOBS_SECONDS = 300.0  # for which the count of all blobs stands, which walks them


@dataclass(frozen=True, slots=True)
class Stock:
    """``blobs`` and ``blob_bytes`` may be minutes old; ``free_bytes`` of the disk, None where it does not say."""

    figures: Figures
    last_event: int
    blobs: int
    blob_bytes: int
    free_bytes: int | None


class Stocktaking:
    """Of one application."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stock: Stock | None = None
        self._taken = self._walked = float("-inf")

    async def take(self) -> Stock | None:
        """None where the catalog cannot be read."""
        now = time.monotonic()
        if self._stock is None or now - self._taken >= FRESH_SECONDS:
            self._taken = now
            try:
                self._stock = await self._count(now)
            except DatabaseFailed:
                self._stock = None
        return self._stock

    async def _count(self, now: float) -> Stock:
        before = self._stock
        walks = before is None or now - self._walked >= BLOBS_SECONDS

        async def body(reader: Reader) -> tuple[Figures, int, tuple[int, int] | None]:
            blobs = await figures.blobs(reader) if walks else None
            return await figures.read(reader), await events.last(reader), blobs

        counted, last, blobs = await self._core.db.read(body)
        if blobs is not None:
            self._walked = now
        known = blobs or ((before.blobs, before.blob_bytes) if before else (0, 0))
        return Stock(counted, last, *known, await self._free())

    async def _free(self) -> int | None:
        try:
            return await self._core.blobs.free_bytes()
        except StoreFailed:
            return None
