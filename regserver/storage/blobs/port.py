"""The port for bytes. It knows no repository, tag or user; it names files by digest and by a random key.

A key is drawn for one upload and registered in the catalog before the first byte is written; it never comes back
(docs/gc-proof.md). Every method that says *durable* has synced file and directory when it returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from regserver.model.digest import Algorithm, Digest


class StagingBusy(Exception):
    """Another writer, perhaps of another process, holds the staged file."""


class StagingGone(Exception):
    """The staged file does not exist: cancelled, expired, or never begun here."""


class StoreFailed(Exception):
    """The disk refused: full, an I/O error, a failed sync. Nothing was published. ``full``: there was no space."""

    def __init__(self, message: str, *, full: bool = False, fatal: bool = False) -> None:
        super().__init__(message)
        self.full = full
        self.fatal = fatal  # a sync failed: what the disk holds is unknown, readiness goes red


class Unreadable(StoreFailed):
    """The medium has lost bytes, so that they cannot be read: no want of memory, descriptors or rights."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An open file: its bytes stay readable after ``remove``. The receiver closes ``fd``. ``size`` in bytes."""

    fd: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file met by ``scan``: its key and, once published, its digest."""

    key: str
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Rehashed:
    """What a published file holds: the digest of its bytes, and how many they are."""

    digest: Digest
    size: int


class Framing(Protocol):
    """Tells an upload's bytes from what stands between them. ``complete``: there are no more."""

    complete: bool

    def decode(self, received: memoryview) -> list[memoryview]: ...


@dataclass(slots=True)
class Waiting:
    """Bytes that wait in a socket, which does not block. At most ``count`` of them are the upload's; where there is a
    ``framing``, those that it finds, and it may come to its end in more than ``count``.

    What became of them: ``taken``, how many are in the file; ``dry``, no more waited; ``ended``, no more will come."""

    fd: int
    count: int
    framing: Framing | None = None
    taken: int = 0
    dry: bool = False
    ended: bool = False


Pace = Callable[[int], Awaitable[None]]
"""Is told of every so many bytes read, and returns when more may be read."""


class Staged(Protocol):
    """An upload's bytes, held by one writer until ``close``. Not safe for two tasks."""

    @property
    def size(self) -> int:
        """Bytes written so far; after ``write`` returned they outlive this process (not a power loss)."""

    async def write(self, parts: Sequence[bytes]) -> None:
        """Appends the parts in order and hashes them. Raises StoreFailed; ``size`` is then what really was written."""

    async def receive(self, waiting: Waiting) -> None:
        """Appends what waits in the socket, until there is no more or others wait for the thread. Raises StoreFailed.

        Never waits for the sender. ``size`` is then what really was written, and so is ``waiting.taken``."""

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Of all bytes: from the running hash as far as this process came with it; the rest is read again."""

    async def publish(self, digest: Digest) -> None:
        """fsync, rename under (digest, key), fsync the directory: durable. The caller has verified the digest.

        Raises StagingGone if the file was taken away, StoreFailed otherwise. A failed sync is never retried."""

    async def close(self) -> None:
        """Releases the file for another writer. The bytes stay."""


class BlobStore(Protocol):
    """Filesystem and fake pass the same suite: tests/contract/."""

    async def begin(self, key: str, algorithm: Algorithm) -> None:
        """Creates the empty staged file. The key is registered already."""

    async def resume(self, key: str, algorithm: Algorithm) -> Staged:
        """Opens the staged file for its one writer. Raises StagingBusy, StagingGone."""

    async def staged_size(self, key: str) -> int:
        """Bytes staged so far. Raises StagingGone."""

    async def open(self, key: str, digest: Digest) -> LocalFile | None:
        """The published blob, open; None if there is no such file."""

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        """Reads the published blob whole, from the medium where that can be had; None if there is no such file.

        Raises Unreadable for lost bytes, StoreFailed for anything else, which then says nothing about the blob."""

    async def quarantine(self, key: str, digest: Digest) -> bool:
        """Takes the published file out of the way of ``open`` and ``rehash``, kept for people to look at.

        ``scan`` meets it and ``remove`` takes it like any other. False if there is no such file. Not durable: whichever
        name a power loss leaves, it is of the same key."""

    async def remove(self, files: Sequence[tuple[str, Digest | None]]) -> list[int]:
        """Unlinks whatever stands under each key, staged, published or quarantined (its digest as far as known), in
        this order. Missing is no error.

        Returns the bytes given back for each. Not yet durable: ``sync_removals``."""

    async def sync_removals(self) -> None:
        """Makes every earlier ``remove`` durable."""

    def scan(self) -> AsyncIterator[Sequence[StoredFile]]:
        """Every file in batches, staged ones too. A batch is listed whole before it is yielded."""

    async def free_bytes(self) -> int:
        """Space left for blobs."""

    async def probe(self) -> None:
        """Writes, syncs and removes a small file. Raises StoreFailed."""

    async def close(self) -> None: ...
