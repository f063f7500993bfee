"""Whether clients are being served: background work that need not hurry gives way to them. It decides only when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

REST_SECONDS = 0.1  # the longest rest after a step, however long that took


class Traffic:
    """Counts the requests that this process is answering now; those of other processes are not seen."""

    def __init__(self) -> None:
        self._requests = 0

    @property
    def is_busy(self) -> bool:
        return self._requests > 0

    @contextmanager
    def request(self) -> Iterator[None]:
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def rest(self, since: float) -> None:
        """After a step that began at ``since`` (monotonic seconds): pauses as long as it took if clients wait."""
        if self.is_busy:
            await asyncio.sleep(min(time.monotonic() - since, REST_SECONDS))
