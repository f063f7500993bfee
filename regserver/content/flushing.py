"""Writes what each process has noted outside of transactions: pulls, and when credentials were last used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Protocol

from regserver.content.core import Core
from regserver.content.waiting import set_within
from regserver.storage.sql.port import DatabaseFailed

log = logging.getLogger("regserver.flushing")


class Flush(Protocol):
    """Writes what was noted; ``final``: nothing comes after it."""

    def __call__(self, *, final: bool) -> Awaitable[None]: ...


class Flushing:
    """For every process: what one has noted no other one knows."""

    def __init__(self, core: Core, flush: Sequence[Flush] = ()) -> None:
        self._core = core
        self._flush = flush

    async def run(self, stop: asyncio.Event) -> None:
        """Writes four times in an epoch until ``stop``, and then once more."""
        pause = max(1, self._core.settings.epoch_seconds // 4)
        while not await set_within(stop, pause):
            await self._try_once(final=False)
        await self._try_once(final=True)

    async def run_once(self, *, final: bool = False) -> None:
        """Raises DatabaseFailed: then all of it stays noted."""
        await self._core.pulls.flush(self._core.db)
        for flush in self._flush:
            await flush(final=final)

    async def _try_once(self, *, final: bool) -> None:
        try:
            await self.run_once(final=final)
        except DatabaseFailed as failed:
            log.warning("pulls and last uses are not written yet: %s", failed)
