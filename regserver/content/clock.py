"""Drives the epoch clock from this boot's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from regserver.content.core import Core
from regserver.storage.catalog import clock
from regserver.storage.catalog.clock import Hand
from regserver.storage.sql.port import Transaction

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME = Path("/proc/self/ns/time")  # time_namespaces(7): containers may shift the monotonic clock


def boot_id() -> str:
    """Names what shares one monotonic clock: this boot of the machine, in this namespace. Readings of another one mean
    nothing here."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return f"unknown-{time.time_ns() - time.monotonic_ns()}"
    try:
        return f"{boot} {_TIME.readlink()}"
    except OSError:  # a kernel without them
        return boot


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Clock:
    """One hand on the clock of all. ``boot`` and ``read`` say which monotonic clock is read; tests bring their own."""

    def __init__(self, core: Core, boot: str | None = None, read: Callable[[], int] = _monotonic_ms) -> None:
        self._core = core
        self._boot = boot or boot_id()
        self._read = read
        self._seen: tuple[int, int] | None = None

    async def tick(self, mono_ms: int | None = None) -> None:
        """Advances the epoch by one if it has lasted ``epoch_seconds``: by the row's reading if that is of this boot's
        clock, else as long as this object has been watching."""
        read = self._read if mono_ms is None else lambda: mono_ms
        hand = Hand(self._boot, read, self._seen)

        async def body(tx: Transaction) -> int:
            return await clock.tick(tx, hand, self._core.settings.epoch_seconds * 1000)

        epoch = await self._core.db.write(body)
        if self._seen is None or self._seen[0] != epoch:
            self._seen = epoch, read()  # after its COMMIT: this epoch has begun
