"""What the rules stand on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from regserver.config import Settings
from regserver.storage.blobs.port import BlobStore
from regserver.storage.sql.port import Database


@dataclass(slots=True)
class Health:
    """Why this process must not take writes any more; None while it may. /readyz shows it, only a restart clears it."""

    failure: str | None = None

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason


@dataclass(frozen=True, slots=True)
class Usage:
    """A registry's bytes after a step, and its limit; ``limit`` None is no limit."""

    used: int
    limit: int | None

    @property
    def nearly_full(self) -> bool:
        return self.limit is not None and self.used * 10 > self.limit * 9


@dataclass(frozen=True, slots=True)
class Core:
    db: Database
    blobs: BlobStore
    settings: Settings
    health: Health = field(default_factory=Health)

    def epochs(self, seconds: int) -> int:
        """How many epochs must have passed before so many seconds certainly have: rounded up, and one for the edge."""
        return math.ceil(seconds / self.settings.epoch_seconds) + 1
