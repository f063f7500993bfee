"""`regserver serve --workers N`: a small process that serves nothing, and keeps N that do.

It binds the address, starts the first worker, which brings the catalog up to date and makes what a first start makes,
then the others; it starts again who dies, and passes on the end. What the workers share is the catalog and the folder:
nothing is right only because of this process (docs/adr/0014-workers.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from regserver import __version__, logs
from regserver.announcing import ServeFailed, announce, cannot_listen, url_of
from regserver.config import Settings
from regserver.workers import channel
from regserver.workers.doors import open_doors
from regserver.workers.place import Place

logger = logging.getLogger(__name__)

MARGIN_SECONDS = 10.0  # beyond the drain: what a worker gets to close its files before it is killed


def run(settings: Settings) -> int:
    """The exit code: 0 after a signal, else that of the worker that could not start, which has said why."""
    try:
        return asyncio.run(Supervisor(settings).supervise())
    except ServeFailed as error:
        sys.stderr.write(f"regserver: {logs.clean(str(error))}\n")
        return 1


class Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failure = b""
        self._places: Sequence[Place] = ()

    async def supervise(self) -> int:
        """Raises ServeFailed when the address cannot be used."""
        try:
            doors = open_doors(self._settings.host, self._settings.port, self._settings.workers)
        except OSError as error:
            raise cannot_listen(self._settings, error) from None
        address = doors[0].sockets[0].getsockname()[:2]
        self._places = [Place(index, self._settings, door, self._heard) for index, door in enumerate(doors)]
        stopping = self._on_signals()
        working = asyncio.create_task(self._work(address))
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        code = working.result() if working.done() else 0
        if not code:
            logger.info("shutting down", extra={"workers": len(self._places)})
        await self._end()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
        if not code:
            logger.info("stopped")
        return code

    async def _work(self, address: tuple[str, int]) -> int:
        """Until a worker cannot start and none serves, or one could not at the beginning: its exit code."""
        tasks: set[asyncio.Task[int]] = set()
        for some in (self._places[:1], self._places[1:]):  # the first alone: what it makes the others find
            tasks |= {asyncio.create_task(place.keep(self._is_served)) for place in some}
            ready = asyncio.gather(*(place.ready.wait() for place in some))
            either: set[asyncio.Future[Any]] = {*tasks, ready}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                ready.cancel()
                return next(task.result() for task in tasks if task.done())
        logger.info(
            "listening",
            extra={
                "version": __version__,
                "address": url_of(self._settings, address),
                "root": self._settings.root,
                "workers": len(self._places),
            },
        )
        announce(self._settings, address)
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(ended)).result()

    def _is_served(self) -> bool:
        return any(place.serves for place in self._places)

    def _heard(self, message: bytes) -> None:
        """Why one worker must take no writes any more holds for all, also for one that is started later."""
        if message.startswith(channel.FAILED) and not self._failure:
            self._failure = message
            for place in self._places:
                place.warn(message)

    async def _end(self) -> None:
        """Everybody is told to go; who has not gone in time is killed."""
        going = [asyncio.create_task(place.end()) for place in self._places]
        _, late = await asyncio.wait(going, timeout=self._settings.drain_seconds + MARGIN_SECONDS)
        if late:
            logger.warning("workers were killed: they did not end within the drain time", extra={"workers": len(late)})
            self._kill()
            await asyncio.wait(late)

    def _kill(self) -> None:
        for place in self._places:
            place.kill()

    def _on_signals(self) -> asyncio.Event:
        """The first one asks everybody to go; a second one ends all at once: the store needs no goodbye."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            if stopping.is_set():
                self._kill()
                os._exit(128 + number)
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        return stopping
