"""Collections that nobody asks for: each registry's, an interval after its last one, one at a time.

They are jobs like any other, shown in the same list and resumed in the same way; only they are patient: what lost its
last tag stays until it cannot be undone any more. The wall clock says when one is due: it begins something, and decides
on no age that permits a deletion.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from regserver.content.collector import Collector
from regserver.content.core import Core
from regserver.content.jobs import Jobs
from regserver.content.waiting import set_within
from regserver.errors import RegistryError
from regserver.model.audit import Actor
from regserver.model.times import now_ms
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import jobs, registries
from regserver.storage.sql.port import DatabaseFailed

log = logging.getLogger("regserver.schedule")

ACTOR = Actor("schedule")
PAUSE_SECONDS = 60.0  # before the first look after a start, and between two
TURN = 20  # registries taken from the catalog at a time
KEPT = 30  # of a registry's scheduled jobs, in its list


class CollectionSchedule:
    """Safe in several processes: a registry has one running job, and its start puts the next one off in the catalog."""

    def __init__(self, core: Core, collector: Collector, jobs: Jobs, *, pause: float = PAUSE_SECONDS) -> None:
        self._core = core
        self._collector = collector
        self._jobs = jobs
        self._pause = pause

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``; not at all where the interval is 0. A failure is logged and tried again later."""
        while self._core.settings.collect_interval_seconds and not await set_within(stop, self._pause):
            try:
                while await self.run_due(stop) and not stop.is_set():
                    pass
            except (StoreFailed, DatabaseFailed) as failed:
                self._core.report(failed)
                log.warning("the schedule of collections goes on later: %s", failed)

    async def run_due(self, stop: asyncio.Event) -> int:
        """Collects some of the registries that are due; returns how many. Raises DatabaseFailed, StoreFailed."""
        now, interval = now_ms(), self._core.settings.collect_interval_seconds * 1000
        due = await registries.uncollected(self._core.db, now - interval, now, TURN)
        count = 0
        for registry_id in due:
            if stop.is_set():
                return count
            with contextlib.suppress(RegistryError):  # it has gone meanwhile, or is going
                count += await self._collect(registry_id)
        if count and not stop.is_set():
            # It walks all blobs: once for all of them, and a job only where it has dropped a link.
            await self._collector.condemn()
            await self._collector.reap()
        return count

    async def _collect(self, registry_id: str) -> bool:
        job = await self._jobs.start(registry_id, ACTOR, patient=True)
        if job.started_by != ACTOR.subject:
            return False  # somebody's own job runs, whose start has put this one off
        if not await self._jobs.until_ended(job):
            return False
        forget = partial(jobs.forget_old, registry_id=registry_id, started_by=ACTOR.subject, keep=KEPT)
        await self._core.db.write(forget)
        return True
