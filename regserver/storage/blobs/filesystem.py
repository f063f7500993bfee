"""Blobs as plain files under one folder (layout.py draws it), on a local filesystem with flock and durable renames.

Nothing here is decided by what this process remembers: names and their order decide, so processes may share a root.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.disk import Disk, Removals, refusing
from regserver.storage.blobs.hashes import RunningHashes
from regserver.storage.blobs.layout import Layout, parse_published, parse_quarantined, parse_staged
from regserver.storage.blobs.port import LocalFile, Pace, Rehashed, StagingGone, StoredFile, StoreFailed
from regserver.storage.blobs.reading import rehash
from regserver.storage.blobs.splicing import Pipes
from regserver.storage.blobs.staging import FilesystemStaged, Jobs, Parts, lock_staged

T = TypeVar("T")

THREADS = 8  # they wait for the disk more than they compute
KEPT_HASHES = 1024
REMOVED_AT_ONCE = 50  # files that one thread unlinks in a row: a job costs more than an unlink, and its waits overlap
BATCH = 500  # files in a batch of scan at most


class FilesystemBlobStore:
    """Implements ``BlobStore``. Lookups are answered in the loop's thread, what may wait for the disk in others."""

    def __init__(self, root: Path, *, disk: Disk | None = None, kept_hashes: int = KEPT_HASHES) -> None:
        self._layout = Layout(root)
        self._disk = disk or Disk()
        self._jobs = Jobs(THREADS)
        self._hashes = RunningHashes(kept_hashes)
        self._removals = Removals(self._disk)
        self._pipes = Pipes()
        self._parts = Parts(self._layout, self._disk, self._jobs, self._hashes, self._pipes)

    @classmethod
    async def at(cls, root: Path, *, disk: Disk | None = None, kept_hashes: int = KEPT_HASHES) -> FilesystemBlobStore:
        """A store on an existing folder or a new one. Raises StoreFailed that names the folder, for the operator."""
        store = cls(root, disk=disk, kept_hashes=kept_hashes)
        try:
            await store._jobs.start(store._prepare)
        except (OSError, StoreFailed) as error:
            await store.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreFailed(f"cannot store blobs in {root}: {reason}") from error
        return store

    def _prepare(self) -> None:
        root, uploads, blobs = self._layout.root, self._layout.uploads, self._layout.blobs
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        for folder in (*reversed(missing), uploads, blobs, *map(self._layout.algorithm, Algorithm)):
            self._disk.make_directory(folder)
        if len({folder.stat().st_dev for folder in (uploads, *map(self._layout.algorithm, Algorithm))}) > 1:
            raise StoreFailed("uploads and blobs are on different filesystems; a rename cannot publish between them")
        self._probe()

    async def begin(self, key: str, algorithm: Algorithm) -> None:
        path = self._layout.staged(key)
        await self._jobs.start(lambda: _create(path))

    async def resume(self, key: str, algorithm: Algorithm) -> FilesystemStaged:
        return FilesystemStaged(self._parts, key, algorithm, lock_staged(self._layout.staged(key)))

    async def staged_size(self, key: str) -> int:
        with refusing("look at an upload", missing=StagingGone):
            return os.lstat(self._layout.staged(key)).st_size

    async def open(self, key: str, digest: Digest) -> LocalFile | None:
        path = self._layout.published(key, digest)
        try:
            with refusing("open a blob", missing=FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return LocalFile(fd, os.fstat(fd).st_size)

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        return await rehash(self._jobs, self._layout.published(key, digest), digest.algorithm, pace)

    async def quarantine(self, key: str, digest: Digest) -> bool:
        source, target = self._layout.published(key, digest), self._layout.quarantined(key, digest)
        return await self._jobs.start(lambda: self._move_away(source, target))

    def _move_away(self, source: Path, target: Path) -> bool:
        self._disk.make_directory(self._layout.quarantine)
        self._disk.make_directory(target.parent)
        try:
            with refusing("quarantine a blob", missing=FileNotFoundError):
                self._disk.rename(source, target)
        except FileNotFoundError:
            return False
        return True

    async def remove(self, files: Sequence[tuple[str, Digest | None]]) -> list[int]:
        """As in the port. Staged, published, quarantined: in the direction in which renames move it.

        Without the digest, a late request may have published the file under a name that cannot be known here. No table
        names that file then, and the sweep finds it through ``scan``.
        """
        some = _batches([self._names(key, digest) for key, digest in files], REMOVED_AT_ONCE)
        freed = await asyncio.gather(*(self._jobs.start(partial(self._remove, names)) for names in some))
        return list(chain.from_iterable(freed))

    def _names(self, key: str, digest: Digest | None) -> list[Path]:
        self._hashes.forget(key)
        staged = [self._layout.staged(key)]
        if digest is None:
            return staged
        return [*staged, self._layout.published(key, digest), self._layout.quarantined(key, digest)]

    def _remove(self, files: Sequence[Sequence[Path]]) -> list[int]:
        return [self._removals.remove(names) for names in files]

    async def sync_removals(self) -> None:
        await self._jobs.start(self._removals.sync)

    async def scan(self) -> AsyncIterator[Sequence[StoredFile]]:
        """As in the port; uploads first, quarantine last, so that a file moved meanwhile is met at least once."""
        for batch in _batches(await self._jobs.start(lambda: _listed(self._layout.uploads, parse_staged))):
            yield batch
        for algorithm in Algorithm:
            for name in await self._jobs.start(partial(_folders, self._layout.algorithm(algorithm))):
                for batch in _batches(await self._jobs.start(self._published_listing(algorithm, name))):
                    yield batch
        for algorithm in Algorithm:
            for batch in _batches(await self._jobs.start(self._quarantined_listing(algorithm))):
                yield batch

    def _published_listing(self, algorithm: Algorithm, name: str) -> Callable[[], list[StoredFile]]:
        directory = self._layout.algorithm(algorithm) / name
        return lambda: _listed(directory, lambda file: parse_published(algorithm, name, file))

    def _quarantined_listing(self, algorithm: Algorithm) -> Callable[[], list[StoredFile]]:
        directory = self._layout.quarantine / algorithm.value
        return lambda: _listed(directory, partial(parse_quarantined, algorithm))

    async def free_bytes(self) -> int:
        with refusing("ask for free space"):
            found = await self._jobs.start(lambda: os.statvfs(self._layout.root))
        return found.f_bavail * found.f_frsize

    async def probe(self) -> None:
        await self._jobs.start(self._probe)

    def _probe(self) -> None:
        with refusing("probe"):
            fd = os.open(
                self._layout.probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                self._disk.writev(fd, [memoryview(b"probe")])
                self._disk.sync(fd)
            finally:
                os.close(fd)
                with suppress(FileNotFoundError):  # another process probes too
                    self._disk.unlink(self._layout.probe)

    async def close(self) -> None:
        await self._jobs.close()
        self._pipes.close()


def _create(path: Path) -> None:
    with refusing("begin an upload"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _folders(directory: Path) -> list[str]:
    """The folders that there are: most stores have few, and each costs a hop to a thread."""
    with refusing("list"), os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _batches(found: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    return (found[start : start + size] for start in range(0, len(found), size))


def _listed(directory: Path, parse: Callable[[str], StoredFile | None]) -> list[StoredFile]:
    """The store's own files in a directory, read to its end. Empty where there is none."""
    try:
        with refusing("list", missing=FileNotFoundError), os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [found for name in names if (found := parse(name)) is not None]
