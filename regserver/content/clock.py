"""Drives the epoch clock from this boot's monotonic clock."""

from __future__ import annotations

import time
from pathlib import Path

from regserver.content.core import Core
from regserver.storage.catalog import clock
from regserver.storage.sql.port import Transaction

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names this boot of the machine; monotonic readings of another one mean nothing here."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"unknown-{time.time_ns() - time.monotonic_ns()}"


class Clock:
    """``boot`` names the boot whose monotonic clock is read; tests bring their own, and their own readings."""

    def __init__(self, core: Core, boot: str | None = None) -> None:
        self._core = core
        self._boot = boot or boot_id()

    async def tick(self, mono_ms: int | None = None) -> None:
        """Advances the epoch by one if ``epoch_seconds`` have passed on this boot since it last advanced."""
        reading = mono_ms if mono_ms is not None else time.monotonic_ns() // 1_000_000

        async def body(tx: Transaction) -> None:
            await clock.tick(tx, self._boot, reading, self._core.settings.epoch_seconds * 1000)

        await self._core.db.write(body)
