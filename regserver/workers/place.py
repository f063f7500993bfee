"""One worker's place, and the processes that fill it one after another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable

from regserver.config import Settings
from regserver.content.waiting import set_within
from regserver.workers import WORKER, channel
from regserver.workers.channel import Order
from regserver.workers.doors import Door
from regserver.workers.shares import share

logger = logging.getLogger(__name__)

STEADY_SECONDS = 10.0  # who served so long is started again at once; who ends earlier, after a pause that doubles
LEAST_PAUSE, MOST_PAUSE = 0.5, 30.0
SHORT_PAUSE = 1.0  # so long who connects may wait at the door; in a longer pause the others take everybody

_BEGIN = "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from regserver.__main__ import main; sys.exit(main())"


def command(*arguments: str) -> list[str]:
    """What starts a worker with the very code that runs here, be it installed, an archive, or bundled with Python."""
    if getattr(sys, "frozen", False):
        return [sys.executable, WORKER, *arguments]
    return [sys.executable, "-c", _BEGIN, ":".join(sys.path), WORKER, *arguments]


class Place:
    """``heard`` gets what its worker says, but for ``ready``."""

    def __init__(self, index: int, settings: Settings, door: Door, heard: Callable[[bytes], None]) -> None:
        self.ready = asyncio.Event()  # set once its first worker has served
        self.serves = False
        self._order = Order(index, share(settings, index))
        self._door = door
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._ending, self._gone = asyncio.Event(), asyncio.Event()
        self._gone.set()
        self._warning = b""

    async def keep(self, is_served: Callable[[], bool]) -> int:
        """Keeps a worker here until told to end, or until one cannot start: its exit code, and never 0.

        One that has served before is tried again for as long as ``is_served``, by others."""
        self._gone.clear()
        early = 0  # workers in a row that did not serve for long
        try:
            while not self._ending.is_set():
                code, seconds = await self._once()
                if self._ending.is_set() or (seconds is None and not (self.ready.is_set() and is_served())):
                    return code if code > 0 else 1
                early = 0 if seconds is not None and seconds >= STEADY_SECONDS else early + 1
                await self._rest(code, 0.0 if early <= 1 else min(MOST_PAUSE, LEAST_PAUSE * 2 ** (early - 2)))
            return 1
        finally:
            self._gone.set()

    async def end(self) -> None:
        """Returns when nobody is here any more."""
        self._ending.set()
        self._door.close()
        self._tell(channel.STOP)
        await self._gone.wait()

    def warn(self, message: bytes) -> None:
        """Tells whoever is here, and whoever comes."""
        self._warning = message
        self._tell(message)

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _once(self) -> tuple[int, float | None]:
        """One process, to its end: its exit code, negative for a signal, and the seconds that it served; None if it
        never did."""
        here, there = channel.pair()
        try:
            self._process = await self._spawn(there)
        except OSError as error:
            logger.error("a worker cannot be started", extra={"worker": self._order.index, "reason": error.strerror})  # noqa: TRY400
            here.close()
            return 1, None
        self._channel = here
        self._tell_order()
        hearing = asyncio.create_task(self._hear(here))
        code = await self._process.wait()
        served_since = await hearing
        self.serves, self._channel = False, None
        here.close()
        return code, None if served_since is None else time.monotonic() - served_since

    async def _spawn(self, there: socket.socket) -> asyncio.subprocess.Process:
        """In a session of its own: what a terminal sends is for the supervisor alone. Raises OSError."""
        with there:
            self._door.open()
            passed = [there.fileno(), *self._door.descriptors]
            return await asyncio.create_subprocess_exec(
                *command(*map(str, passed)), stdin=asyncio.subprocess.DEVNULL, pass_fds=passed, start_new_session=True
            )

    def _tell_order(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # then it has ended already
                channel.give(self._channel, self._order)
        if self._warning:
            self._tell(self._warning)
        if self._ending.is_set():
            self._tell(channel.STOP)

    def _tell(self, message: bytes) -> None:
        if self._channel is not None:
            channel.tell(self._channel, message)

    async def _hear(self, here: socket.socket) -> float | None:
        """What the worker says, until it has ended. Returns since when it has served."""
        loop, since = asyncio.get_running_loop(), None
        with contextlib.suppress(OSError):
            while message := await loop.sock_recv(here, channel.MOST):
                if message == channel.READY:
                    since, self.serves = time.monotonic(), True
                    self.ready.set()
                else:
                    self._heard(message)
        return since

    async def _rest(self, code: int, pause: float) -> None:
        logger.warning(
            "a worker has ended; another one is started",
            extra={
                "worker": self._order.index,
                "pid": self._process.pid if self._process is not None else None,
                "ended": signal.Signals(-code).name if code < 0 else f"exit code {code}",
                "in_seconds": pause,
            },
        )
        if pause > SHORT_PAUSE:
            self._door.close()
        await set_within(self._ending, pause)
