"""What the rules stand on, and the few of them that all share."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from regserver.config import Settings
from regserver.content.notes import Notes
from regserver.content.pulls import Pulls
from regserver.content.traffic import Traffic
from regserver.counting import Numbers
from regserver.errors import ErrorCode, RegistryError
from regserver.model.audit import SERVER
from regserver.model.events import EventType
from regserver.storage.blobs.port import BlobStore, StoreFailed, Waiting
from regserver.storage.catalog import events, usage
from regserver.storage.sql.port import Database, Reader, Transaction

Batch = Sequence[bytes] | Waiting
"""What has arrived of a request's body: its bytes, or the socket in which they wait."""


class Body(Protocol):
    """A request's bytes in batches; it raises if they end before they are complete. The receiver closes it."""

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    def aclose(self) -> Awaitable[None]: ...


HOLD_SECONDS = 600  # how long a hold on the trash lives without being renewed


@dataclass(slots=True)
class Health:
    """Why this process must not take writes any more; None while it may. /readyz shows it, only a restart clears it."""

    failure: str | None = None
    tell: Callable[[str], None] | None = None  # the first reason, to the processes that serve together with this one

    def fail(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = reason
        if self.tell is not None:
            self.tell(reason)


@dataclass(frozen=True, slots=True)
class Usage:
    """A registry's bytes after a step, and its limit; ``limit`` None is no limit."""

    used: int
    limit: int | None

    @property
    def nearly_full(self) -> bool:
        return self.limit is not None and self.used * 10 > self.limit * 9

    @property
    def room(self) -> int | None:
        """Bytes that may still come; None is any number."""
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Core:
    db: Database
    blobs: BlobStore
    settings: Settings
    health: Health = field(default_factory=Health)
    pulls: Pulls = field(default_factory=Pulls)
    traffic: Traffic = field(default_factory=Traffic)
    notes: Notes = field(default_factory=Notes)
    numbers: Numbers = field(default_factory=Numbers)

    def report(self, failed: Exception) -> None:
        """What background work has failed with: after a failed sync only a restart goes on."""
        if isinstance(failed, StoreFailed) and failed.fatal:
            self.health.fail("a sync to disk failed; check the disk, then restart")

    def epochs(self, seconds: int) -> int:
        """After how many epochs so many seconds have certainly passed: rounded up, and one for the edge."""
        return math.ceil(seconds / self.settings.epoch_seconds) + 1

    def lease_floor(self, epoch: int) -> int:
        """The oldest epoch whose leases still live in this one."""
        return epoch - self.epochs(self.settings.lease_seconds)

    def hold_floor(self, epoch: int) -> int:
        """The oldest epoch whose holds on the trash still live in this one."""
        return epoch - self.epochs(HOLD_SECONDS)

    async def usage(self, reader: Reader, registry_id: str) -> Usage:
        return self._usage(*await usage.read(reader, registry_id))

    async def hold_usage(self, tx: Transaction, registry_id: str) -> Usage:
        """The same for a transaction that may charge: its first lock, before any of a link or a blob."""
        return self._usage(*await usage.hold(tx, registry_id))

    def _usage(self, used: int, own: int | None) -> Usage:
        return Usage(used, own if own is not None else self.settings.default_quota_bytes)

    async def settle(self, tx: Transaction, registry_id: str, before: Usage) -> Usage:
        """The last step of a transaction that may have charged: what does not fit undoes it all.

        Raises RegistryError DENIED with the figures. A step that charges nothing passes even beyond the limit.
        """
        after = await self.usage(tx, registry_id)
        if after.limit is not None and after.used > after.limit and after.used > before.used:
            raise self.quota_exceeded(registry_id, before, after.used - before.used)
        if after.nearly_full and not before.nearly_full:
            more = {"reason": "nearly_full", "used_bytes": after.used, "limit_bytes": after.limit}
            await events.of_registry(tx, EventType.QUOTA, registry_id, SERVER, more=more)
        return after

    def quota_exceeded(self, registry_id: str, usage: Usage, needed: int) -> RegistryError:
        """The refusal, which is noted: its own transaction leaves nothing behind."""
        self.notes.refused(registry_id, usage.used, usage.limit or 0, needed)
        return _quota_exceeded(usage, needed)


def _quota_exceeded(usage: Usage, needed: int) -> RegistryError:
    limit = usage.limit or 0
    return RegistryError(
        ErrorCode.DENIED,
        {"reason": "quota", "used_bytes": usage.used, "limit_bytes": limit, "needed_bytes": needed},
        message=f"quota exceeded: {usage.used} of {limit} bytes are used and {needed} more are needed",
    )
