"""Takes away what deleted registries held, a bounded step at a time, until nothing of them is left.

A registry's row stays ``deleting`` until everything else is gone and the disk has its space back, so a process that
ends in between leaves the mark that the next one goes on from.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from regserver.content.core import Core
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import purge, registries
from regserver.storage.catalog.registries import Status
from regserver.storage.sql.port import DatabaseFailed, Transaction

log = logging.getLogger("regserver.purge")

BATCH = 500  # rows in one transaction, so that a pushing client never waits long for the writer
RETRY_SECONDS = 60.0  # after a failure
LOOK_SECONDS = 0.5  # between two looks for what another process has been asked to delete


class Reclaimer(Protocol):
    """The steps of the collector that know no registry."""

    async def condemn(self) -> object: ...
    async def reap(self) -> object: ...


class Purge:
    """Safe beside a second one, in this process or another: each step takes what is there, missing is no error."""

    def __init__(self, core: Core, reclaimer: Reclaimer) -> None:
        self._core = core
        self._reclaimer = reclaimer
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        self._wanted.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Purges what earlier processes left, then whenever woken, here or elsewhere, until ``stop``."""
        while not stop.is_set():
            self._wanted.clear()
            await self._rest(stop, LOOK_SECONDS if await self._try_once() else RETRY_SECONDS)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._wanted)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _try_once(self) -> bool:
        try:
            await self.run_once()
        except StoreFailed as failed:
            if failed.fatal:
                self._core.health.fail("a sync to disk failed; check the disk, then restart")
            log.warning("a deleted registry is not purged yet: %s", failed)
        except DatabaseFailed as failed:
            log.warning("a deleted registry is not purged yet: %s", failed)
        else:
            return True
        return False

    async def run_once(self) -> int:
        """Purges every registry that is ``deleting``; returns how many. Raises DatabaseFailed, StoreFailed."""
        leaving = await registries.in_status(self._core.db, Status.DELETING)
        for registry_id in leaving:
            await self._empty(registry_id)
        if leaving:
            await self._reclaimer.condemn()
            await self._reclaimer.reap()
        for registry_id in leaving:  # last: until here the row is what a restart goes on from
            await self._forget(registry_id)
        return len(leaving)

    async def _empty(self, registry_id: str) -> None:
        while (repository := await purge.a_repository(self._core.db, registry_id)) is not None:
            while await self._step(repository):
                pass

            async def forget(tx: Transaction, repository: int = repository) -> None:
                await purge.forget_repository(tx, repository)

            await self._core.db.write(forget)

    async def _step(self, repository: int) -> int:
        async def body(tx: Transaction) -> int:
            return await purge.some_uploads(tx, repository, BATCH) or await purge.some_rows(tx, repository, BATCH)

        return await self._core.db.write(body)

    async def _forget(self, registry_id: str) -> None:
        async def body(tx: Transaction) -> None:
            await purge.forget_registry(tx, registry_id)

        await self._core.db.write(body)
