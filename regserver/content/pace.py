"""Reading no faster than was agreed, and slower while the process is busy with requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from regserver.content.waiting import set_within

LATE_SECONDS = 0.005  # a loop that comes back later than this has requests to serve
REST_FACTOR = 10
LONGEST_REST = 1.0


class Stopping(Exception):
    """The process ends: whatever is read now is read again by the next one."""


class Slowly:
    """A ``Pace`` of at most ``bytes_per_second``. It sleeps after each piece; coming back late means that requests wait
    for the loop, and it rests ten times as long as it was late; ``late`` seconds do not count, all of them where no
    request is served. Raises Stopping once ``stop`` is set."""

    def __init__(
        self,
        bytes_per_second: int,
        stop: asyncio.Event,
        *,
        late: float = LATE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[asyncio.Event, float], Awaitable[bool]] = set_within,
    ) -> None:
        self._rate = bytes_per_second
        self._stop = stop
        self._late = late
        self._clock = clock
        self._wait = wait
        self._next = 0.0

    async def __call__(self, count: int) -> None:
        now = self._clock()
        self._next = max(self._next, now) + count / self._rate
        await self._rest(self._next - now)
        late = self._clock() - self._next
        if late > self._late:
            await self._rest(min(late * REST_FACTOR, LONGEST_REST))

    async def _rest(self, seconds: float) -> None:
        await self._wait(self._stop, seconds)
        if self._stop.is_set():
            raise Stopping


async def at_once(_: int) -> None:
    """A ``Pace`` without a limit."""
