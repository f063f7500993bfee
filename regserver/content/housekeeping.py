"""What a server does by itself: moves the clock, ends stale uploads, empties the trash, runs retention.

One process does it for all that share a folder; several may.
"""

from __future__ import annotations

import asyncio
import logging
import time

from regserver.content.clock import Clock
from regserver.content.collector import BATCH, Collector
from regserver.content.core import Core
from regserver.content.idempotency import KEPT_SECONDS
from regserver.content.retention import Retentions
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import audit, clock, events, garbage, holds, idempotency, uploads
from regserver.storage.sql.port import DatabaseFailed, Transaction

log = logging.getLogger("regserver.housekeeping")

EVENTS = 500  # that one transaction forgets: small rows, each found by its key
SWEEP_SECONDS = 86400.0  # between two looks for files that no table names; the first comes with the start


class Housekeeping:
    def __init__(self, core: Core, collector: Collector | None = None, clock: Clock | None = None) -> None:
        self._core = core
        self._collector = collector or Collector(core)
        self._clock = clock or Clock(core)
        self._retentions = Retentions(core)

    async def recover(self) -> None:
        """Before the first request, from the tables alone: the clock runs. What else is open is resumed in ``run``."""
        await self._clock.tick()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``. A failure is logged and tried again at the next turn; it never ends the server."""
        pause = max(1, self._core.settings.epoch_seconds // 4)
        sweep_at = time.monotonic()
        while not stop.is_set():
            try:
                await self.run_once()
                if time.monotonic() >= sweep_at:
                    await self._sweep()
                    sweep_at = time.monotonic() + SWEEP_SECONDS
            except StoreFailed as failed:
                if failed.fatal:
                    self._core.health.fail("a sync to disk failed; check the disk, then restart")
                log.warning("housekeeping: %s", failed)
            except DatabaseFailed as failed:
                log.warning("housekeeping: %s", failed)
            await _sleep(stop, pause)

    async def run_once(self) -> None:
        """One turn: tick, expire, reap, retain; before the last, what this process has noted of pulls."""
        await self._clock.tick()
        await self.expire_uploads()
        await self.expire_audit()
        await self.expire_events()
        await self.expire_keys()
        await self.expire_holds()
        await self._collector.reap()
        await self._core.pulls.flush(self._core.db)
        await self._retentions.run_due()

    async def expire_audit(self) -> int:
        """Forgets lines of the audit log past their age, which counts epochs: a clock that jumps forgets nothing."""
        count, more = 0, True
        while more:

            async def body(tx: Transaction) -> int:
                floor = await clock.epoch(tx) - self._core.epochs(self._core.settings.audit_days * 86400)
                return await audit.expire(tx, floor, BATCH)

            gone = await self._core.db.write(body)
            count, more = count + gone, gone == BATCH
        return count

    async def expire_events(self) -> int:
        """Forgets events past their age, in epochs, and all but the latest of too many."""
        count, more, settings = 0, True, self._core.settings
        while more:

            async def body(tx: Transaction) -> int:
                floor = await clock.epoch(tx) - self._core.epochs(settings.event_days * 86400)
                return await events.expire(tx, floor, settings.event_count, EVENTS)

            gone = await self._core.db.write(body)
            count, more = count + gone, gone == EVENTS
        return count

    async def expire_keys(self) -> int:
        """Forgets idempotency keys after their day, in epochs: a clock that jumps lets nothing be done twice."""
        count, more = 0, True
        while more:

            async def body(tx: Transaction) -> int:
                floor = await clock.epoch(tx) - self._core.epochs(KEPT_SECONDS)
                return await idempotency.expire(tx, floor, BATCH)

            gone = await self._core.db.write(body)
            count, more = count + gone, gone == BATCH
        return count

    async def expire_holds(self) -> int:
        """Forgets holds on the trash that nobody renews: a backup that was killed."""

        async def body(tx: Transaction) -> int:
            return await holds.expire(tx, self._core.hold_floor(await clock.epoch(tx)))

        return await self._core.db.write(body)

    async def expire_uploads(self) -> int:
        """Moves the keys of sessions past their age from ``uploads`` to ``trash``: safe under a live request (L2)."""
        count = 0
        while True:
            epoch = await clock.epoch(self._core.db)
            floor = epoch - self._core.epochs(self._core.settings.upload_ttl_seconds)
            batch = await uploads.expired(self._core.db, floor, BATCH)
            if not batch:
                return count

            async def body(tx: Transaction, batch: list[tuple[str, str]] = [(r[0], r[1]) for r in batch]) -> None:  # noqa: B006
                for upload_id, key in batch:
                    if await uploads.take(tx, upload_id, key):
                        await garbage.trash(tx, key, None)

            await self._core.db.write(body)
            count += len(batch)

    async def _sweep(self) -> None:
        swept = await self._collector.sweep()
        if swept:
            log.info("removed %d files that no table names", swept)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
