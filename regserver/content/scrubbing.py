"""The scrub in the background: slow, a step at a time, and after a restart it goes on where it was.

The catalog's one row holds the position. Two processes on one catalog may read the same blobs twice, and no more comes
of it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from regserver.config import Settings
from regserver.content.collector import Collector
from regserver.content.core import Core
from regserver.content.pace import Slowly, Stopping
from regserver.content.scrub import IMAGES, START, Deed, Finding, Scrubber
from regserver.content.waiting import set_within
from regserver.model.times import now_ms
from regserver.storage.blobs.port import Pace, StoreFailed
from regserver.storage.catalog import scrub
from regserver.storage.catalog.scrub import DamageRow, PassRow, Position, Tally
from regserver.storage.sql.port import DatabaseFailed, Reader, Transaction

log = logging.getLogger("regserver.scrub")

STEP_SECONDS = 10  # so much is read again after a restart, and one blob
PAUSE_SECONDS = 60.0  # before the first look after a start, between two, and after a failure


@dataclass(frozen=True, slots=True)
class Standing:
    """How the scrub stands. ``row``: the pass that runs, or the last that ended; None before the first."""

    row: PassRow | None
    settings: Settings
    damaged_blobs: int
    damaged_manifests: int

    @property
    def status(self) -> str:
        if self.settings.scrub_bytes_per_second == 0:
            return "off"
        return "running" if self.row is not None and self.row.phase is not None else "waiting"


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is marked now. ``images`` as ``registry/image``, not all of very many."""

    kind: str
    digest: str
    fault: str
    found_at: int
    images: tuple[str, ...]


class BackgroundScrub:
    def __init__(self, core: Core, collector: Collector, *, pause: float = PAUSE_SECONDS) -> None:
        self._core = core
        self._collector = collector
        self._pause = pause
        self._scrubber: Scrubber | None = None  # at work in this process

    async def standing(self) -> Standing:
        async def body(reader: Reader) -> Standing:
            row, counts = await scrub.latest_pass(reader), await scrub.rotten_counts(reader)
            return Standing(row, self._core.settings, *counts)

        standing = await self._core.db.read(body)
        if standing.row is None or self._scrubber is None:
            return standing
        tally = self._scrubber.tally  # further than the catalog knows: it is told after each step
        return replace(standing, row=standing.row._replace(blobs=tally.blobs, bytes=tally.bytes))

    async def damage(self, limit: int, offset: int) -> tuple[list[Damage], int]:
        """What is served to nobody until it is pushed again, the latest finding first, and how much there is."""

        async def body(reader: Reader) -> tuple[list[Damage], int]:
            found = [await _named(reader, row) for row in await scrub.damage(reader, limit, offset)]
            return found, sum(await scrub.rotten_counts(reader))

        return await self._core.db.read(body)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``; not at all where the rate is 0. A failure is logged and tried again later."""
        rate = self._core.settings.scrub_bytes_per_second
        while rate and not await set_within(stop, self._pause):
            try:
                await self.run_if_due(Slowly(rate, stop), stop)
            except Stopping:
                return
            except (StoreFailed, DatabaseFailed) as failed:
                self._core.report(failed)
                log.warning("the scrub goes on later: %s", failed)

    async def run_if_due(self, pace: Pace, stop: asyncio.Event) -> bool:
        """Begins the pass that is due, or goes on with the one that was left, until it ends or ``stop`` is set.

        Returns whether it ended. Raises what the steps raise.
        """
        row = await scrub.latest_pass(self._core.db)
        step_bytes = max(1, self._core.settings.scrub_bytes_per_second * STEP_SECONDS)
        scrubber = Scrubber(self._core, self._collector, pace, _say, step_bytes=step_bytes)
        if row is None or (row.phase is None and self._is_due(row)):
            row = await self._begin(scrubber)
        if row.phase is None:
            return False
        scrubber.tally = Tally(row.blobs, row.manifests, row.bytes)
        self._scrubber = scrubber
        try:
            position = await self._steps(scrubber, Position(row.phase, row.repository_id, row.after), row, stop)
        finally:
            self._scrubber = None
        if position is None:
            log.info("scrubbed %d blobs, %d manifests and %d bytes", *scrubber.tally)
        return position is None

    async def _steps(
        self, scrubber: Scrubber, position: Position | None, row: PassRow, stop: asyncio.Event
    ) -> Position | None:
        while position is not None and not stop.is_set():
            position = await scrubber.step(position)
            await self._note(row.started_at, position, scrubber.tally)
        return position

    def _is_due(self, row: PassRow) -> bool:
        """By the wall clock: it permits a reading and no deletion. One that was set back waits no longer for that."""
        since = now_ms() - (row.ended_at or 0)
        return not 0 <= since < self._core.settings.scrub_interval_seconds * 1000

    async def _begin(self, scrubber: Scrubber) -> PassRow:
        total, now = await scrubber.measure(), now_ms()

        async def body(tx: Transaction) -> None:
            await scrub.begin_pass(tx, START, total, now)

        await self._core.db.write(body)
        return PassRow(*START, *Tally(), total, now, None)

    async def _note(self, started_at: int, position: Position | None, tally: Tally) -> None:
        async def body(tx: Transaction) -> None:
            if position is None:
                await scrub.end_pass(tx, tally, started_at, now_ms())
            else:
                await scrub.advance_pass(tx, position, tally, started_at)

        await self._core.db.write(body)


async def _named(reader: Reader, row: DamageRow) -> Damage:
    if row.kind == "manifest":
        images = await scrub.image(reader, row.repository_id)
    else:
        images = await scrub.images(reader, row.digest, IMAGES)
    return Damage(row.kind, row.digest, row.fault, row.at, tuple(images))


def _say(finding: Finding) -> None:
    if finding.deed is not Deed.KNOWN:
        fault, images = finding.fault or "sound again", ", ".join(finding.images) or "no image"
        log.warning("scrub: %s %s: %s, %s; %s", finding.kind, finding.name, fault, finding.deed, images)
