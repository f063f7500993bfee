"""A blob store in memory: the same promises as the filesystem's, without a disk to keep them on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.port import (
    LocalFile,
    Pace,
    Rehashed,
    StagingBusy,
    StagingGone,
    StoredFile,
    StoreFailed,
    Waiting,
)


@dataclass
class Files:
    """What outlives a store object, as a folder would."""

    staged: dict[str, bytearray] = field(default_factory=dict)
    published: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    quarantined: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    writers: set[str] = field(default_factory=set)


class MemoryStaged:
    def __init__(self, store: MemoryBlobStore, key: str) -> None:
        self._store = store
        self._key = key
        self._content = store.files.staged[key]
        self._open = True

    @property
    def size(self) -> int:
        return len(self._content)

    async def write(self, parts: Sequence[bytes]) -> None:
        self._store.refuse("write")
        for part in parts:
            self._content += part

    async def receive(self, waiting: Waiting) -> None:
        self._store.refuse("receive")
        framing = waiting.framing
        while waiting.taken < waiting.count and not waiting.ended and not (framing is not None and framing.complete):
            try:
                part = os.read(waiting.fd, waiting.count - waiting.taken)
            except BlockingIOError:
                waiting.dry = True
                return
            except OSError:
                part = b""
            waiting.ended = not part
            own = b"".join(framing.decode(memoryview(part))) if framing is not None else part
            waiting.taken += len(own)
            self._content += own

    async def digest(self, algorithm: Algorithm) -> Digest:
        return Digest.of(bytes(self._content), algorithm)

    async def publish(self, digest: Digest) -> None:
        self._store.refuse("publish")
        files = self._store.files
        if files.staged.get(self._key) is not self._content:
            raise StagingGone
        files.published[self._key, digest] = bytes(files.staged.pop(self._key))

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._store.files.writers.discard(self._key)


class MemoryBlobStore:
    """``failures["publish"] = StoreFailed(…)`` makes the next publish fail so; any operation's name will do."""

    def __init__(self, files: Files | None = None) -> None:
        self.files = files or Files()
        self.failures: dict[str, StoreFailed] = {}
        self.synced = 0  # how often removals were made durable

    def refuse(self, operation: str) -> None:
        if (failure := self.failures.pop(operation, None)) is not None:
            raise failure

    async def begin(self, key: str, algorithm: Algorithm) -> None:
        self.refuse("begin")
        if key in self.files.staged:
            raise StoreFailed("begin an upload: File exists")
        self.files.staged[key] = bytearray()

    async def resume(self, key: str, algorithm: Algorithm) -> MemoryStaged:
        self.refuse("resume")
        if key not in self.files.staged:
            raise StagingGone
        if key in self.files.writers:
            raise StagingBusy
        self.files.writers.add(key)
        return MemoryStaged(self, key)

    async def staged_size(self, key: str) -> int:
        if key not in self.files.staged:
            raise StagingGone
        return len(self.files.staged[key])

    async def open(self, key: str, digest: Digest) -> LocalFile | None:
        self.refuse("open")
        content = self.files.published.get((key, digest))
        if content is None:
            return None
        fd = os.memfd_create("blob")
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        return LocalFile(fd, len(content))

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        self.refuse("rehash")
        content = self.files.published.get((key, digest))
        if content is None:
            return None
        await pace(len(content))
        return Rehashed(Digest.of(content, digest.algorithm), len(content))

    async def quarantine(self, key: str, digest: Digest) -> bool:
        self.refuse("quarantine")
        content = self.files.published.pop((key, digest), None)
        if content is not None:
            self.files.quarantined[key, digest] = content
        return content is not None

    async def remove(self, files: Sequence[tuple[str, Digest | None]]) -> list[int]:
        return [self._remove(key, digest) for key, digest in files]

    def _remove(self, key: str, digest: Digest | None) -> int:
        self.refuse("remove")
        self.files.writers.discard(key)  # whoever holds the file holds it without its name
        freed = len(self.files.staged.pop(key, b""))
        if digest is None:
            return freed
        return freed + sum(
            len(files.pop((key, digest), b"")) for files in (self.files.published, self.files.quarantined)
        )

    async def sync_removals(self) -> None:
        self.refuse("sync_removals")
        self.synced += 1

    async def scan(self) -> AsyncIterator[Sequence[StoredFile]]:
        self.refuse("scan")
        batches = (
            [StoredFile(key, None) for key in self.files.staged],
            [StoredFile(key, digest) for key, digest in self.files.published],
            [StoredFile(key, digest) for key, digest in self.files.quarantined],
        )
        for batch in batches:
            if batch:
                yield batch

    async def free_bytes(self) -> int:
        return 2**40

    async def probe(self) -> None:
        self.refuse("probe")

    async def close(self) -> None:
        pass
