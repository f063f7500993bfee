"""What goes on beside the requests: some of it in every process, the rest in one of those that share a folder.

Everything here is safe in several processes at once and may be killed between any two steps. One suffices, so one does
it: the one that holds the lock. When it ends, another one takes over within a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from regserver.content.jobs import Jobs
from regserver.content.waiting import set_within
from regserver.storage.keeper import KeeperLock

log = logging.getLogger("regserver.keeping")

TRY_SECONDS = 0.5  # between two tries to take over


class Work(Protocol):
    """What goes on in the background until told to stop."""

    async def run(self, stop: asyncio.Event) -> None: ...


class Keeper:
    """``works`` are done by the one process, and so are the jobs."""

    def __init__(self, lock: KeeperLock, jobs: Jobs, works: Sequence[Work]) -> None:
        self._lock = lock
        self._works = (jobs, *works)

    async def run(self, stop: asyncio.Event) -> None:
        """Waits for its turn, then works until ``stop``. The lock is given back after the last step of the work."""
        while not self._lock.take():
            if await set_within(stop, TRY_SECONDS):
                return
        try:
            async with asyncio.TaskGroup() as group:
                for work in self._works:
                    group.create_task(watched(work.run(stop)))
        finally:
            self._lock.release()


async def watched(work: Coroutine[Any, Any, object]) -> None:
    """Background work may fail without taking requests down with it; somebody must hear of it."""
    try:
        await work
    except Exception:
        log.exception("background work ended early; the next start takes it up again")
