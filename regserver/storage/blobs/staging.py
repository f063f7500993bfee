"""A staged file in the hands of its one writer: append, hash, publish."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.disk import Disk, open_directory, refusing
from regserver.storage.blobs.hashes import RunningHash, RunningHashes
from regserver.storage.blobs.layout import Layout
from regserver.storage.blobs.port import Framing, StagingBusy, StagingGone, StoreFailed, Waiting
from regserver.storage.blobs.splicing import Pipe, Pipes

T = TypeVar("T")

INLINE_BYTES = 64 * 2**10  # to write and hash less than this costs the loop less than a hop to a thread
READ_BYTES = 256 * 2**10  # stays in the processor's own memory between the copy and the hash
JOB_BYTES = 64 * 2**20  # what one job reads before another gets the thread
TURN_SECONDS = 0.2  # how long one upload may keep a thread while others wait
FLUSH_BYTES = 8 * 2**20  # what is sent on to the disk at a time, long before publish waits for it
_local = threading.local()
MAX_PARTS = os.sysconf("SC_IOV_MAX")


class Jobs:
    """The store's own few threads: a slow disk delays nothing but the store."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close_file(self, fd: int) -> None:
        """Without waiting: to close the last of a removed file gives its blocks back, which may take long."""
        self._pool.submit(os.close, fd)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a store shares with the uploads in progress."""

    layout: Layout
    disk: Disk
    jobs: Jobs
    hashes: RunningHashes
    pipes: Pipes


def lock_staged(path: Path) -> int:
    """Opens and locks a staged file. Raises StagingBusy, StagingGone, StoreFailed.

    The lock belongs to this opening of the file: it holds against other tasks and other processes alike, and ends with
    the process. It guards the bytes from a second writer, nothing else.
    """
    with refusing("open an upload", missing=StagingGone):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with refusing("lock an upload", missing=StagingGone):
            _lock(fd, path)
            os.lseek(fd, 0, os.SEEK_END)  # for O_APPEND, which splice(2) refuses; the lock keeps other writers away
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StagingBusy from None
    # Opened before, locked after another writer published or a removal took the name: then it is staged no longer.
    if not os.path.samestat(path.lstat(), os.fstat(fd)):
        raise StagingGone


class FilesystemStaged:
    """Implements ``Staged``. A job once begun is waited for by whatever comes next, ``close`` too, cancelled or not."""

    def __init__(self, parts: Parts, key: str, algorithm: Algorithm, fd: int) -> None:
        self._parts = parts
        self._key = key
        self._path = parts.layout.staged(key)
        self._fd = fd
        self._size = self._flushed = os.fstat(fd).st_size
        self._running = parts.hashes.take(key, algorithm, self._size)
        self._job: asyncio.Future[Any] | None = None
        self._hashing: asyncio.Future[Any] | None = None  # of bytes that are in the file; runs beside a job

    @property
    def size(self) -> int:
        return self._size

    async def write(self, parts: Sequence[bytes]) -> None:
        if sum(map(len, parts)) > INLINE_BYTES:
            await self._run(lambda: self._append_and_flush(parts))
        else:
            await self._settled()
            self._append(self._fd, parts)

    async def receive(self, waiting: Waiting) -> None:
        await (_done(self._job) if waiting.framing is None else self._settled())  # what is decoded is hashed at once
        self._job = self._parts.jobs.start(partial(self._take, self._fd, waiting))
        await asyncio.shield(self._job)
        running = self._running
        if running is not None and running.counted < self._size and (self._hashing is None or self._hashing.done()):
            self._hashing = self._parts.jobs.start(partial(self._hash_on, self._fd, running))

    async def digest(self, algorithm: Algorithm) -> Digest:
        await self._settled()
        running = self._running
        if running is None or running.algorithm is not algorithm:
            running = RunningHash(algorithm, algorithm.hasher())
        while running.counted < self._size:
            await self._run(partial(self._hash_on, self._fd, running))
        return Digest.parse(f"{algorithm}:{running.hasher.hexdigest()}")

    async def publish(self, digest: Digest) -> None:
        await self._run(lambda: self._publish(digest))
        self._running = None  # only now: a publish that was refused may be tried again without reading all again

    async def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        if all(job is None or job.done() for job in (self._job, self._hashing)):
            self._release(fd)
            return
        # A task, since this wait may be cancelled too: the descriptor is never given back under a job that uses it.
        await asyncio.shield(self._release_when_settled(fd))

    async def _release_when_settled(self, fd: int) -> None:
        await self._settled()
        self._release(fd)

    def _release(self, fd: int) -> None:
        if self._running is not None:
            self._parts.hashes.keep(self._key, self._running)
        if os.fstat(fd).st_nlink:
            os.close(fd)
        else:
            self._parts.jobs.close_file(fd)

    async def _settled(self) -> None:
        await _done(self._job)
        await _done(self._hashing)

    async def _run(self, work: Callable[[], T]) -> T:
        await self._settled()
        job = self._parts.jobs.start(work)
        self._job = job
        return await asyncio.shield(job)

    def _append_and_flush(self, parts: Sequence[bytes]) -> None:
        self._append(self._fd, parts)
        self._flush(self._fd)

    def _flush(self, fd: int) -> None:
        if self._size - self._flushed >= FLUSH_BYTES:
            self._parts.disk.begin_writeback(fd, self._flushed, self._size - self._flushed)
            self._flushed = self._size

    def _append(self, fd: int, parts: Sequence[bytes | memoryview]) -> None:
        before = self._size
        with refusing("write"):
            try:
                self._write_all(fd, deque(memoryview(part) for part in parts if part))
            finally:
                self._size = os.fstat(fd).st_size
        if self._running is not None and self._running.counted == before:  # else it is behind, and reads the file
            self._running.update(parts)

    def _write_all(self, fd: int, views: deque[memoryview]) -> None:
        while views:
            written = self._parts.disk.writev(fd, list(islice(views, MAX_PARTS)))
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            while views and written >= len(views[0]):
                written -= len(views.popleft())
            if written:
                views[0] = views[0][written:]

    def _take(self, fd: int, waiting: Waiting) -> None:
        until = time.monotonic() + TURN_SECONDS
        try:
            with refusing("receive"):
                if waiting.framing is not None:
                    self._decode(fd, waiting, waiting.framing, until)
                    return
                with self._parts.pipes.one() as pipe:
                    while waiting.taken < waiting.count and time.monotonic() < until and self._fill(pipe, fd, waiting):
                        pass
        finally:
            self._size = os.fstat(fd).st_size
            self._flush(fd)

    def _decode(self, fd: int, waiting: Waiting, framing: Framing, until: float) -> None:
        buffer = _buffer()
        while waiting.taken < waiting.count and time.monotonic() < until and not framing.complete:
            try:
                came = os.readv(waiting.fd, [buffer])
            except BlockingIOError:
                waiting.dry = True
                return
            except OSError:
                came = 0
            if not came:
                waiting.ended = True
                return
            parts = framing.decode(buffer[:came])
            self._append(fd, parts)
            waiting.taken += sum(map(len, parts))

    def _fill(self, pipe: Pipe, fd: int, waiting: Waiting) -> bool:
        """One pipe full. False where no more waits."""
        try:
            filled = pipe.fill(waiting.fd, waiting.count - waiting.taken)
        except BlockingIOError:
            waiting.dry = True
            return False
        except OSError:  # of the connection: whatever became of it, nothing more comes
            filled = 0
        waiting.ended = not filled
        while filled:
            drained = self._parts.disk.drain(pipe, fd, filled)
            if drained <= 0:
                raise OSError(errno.EIO, "nothing was written")
            waiting.taken += drained
            filled -= drained
        return not waiting.ended

    def _hash_on(self, fd: int, running: RunningHash) -> None:
        """Hashes what is in the file, until there is no more or others wait for the thread."""
        buffer, until = _buffer(), running.counted + JOB_BYTES
        while running.counted < min(self._size, until):
            with refusing("read an upload again"):
                count = os.preadv(fd, [buffer[: self._size - running.counted]], running.counted)
            if count == 0:
                raise StoreFailed("read an upload again: it is shorter than it was")
            running.update([buffer[:count]])

    def _publish(self, digest: Digest) -> None:
        """The order is what a power loss must not reverse: bytes before name, name before answer."""
        disk, target = self._parts.disk, self._parts.layout.published(self._key, digest)
        disk.check()
        disk.make_directory(target.parent)
        with refusing("open a directory"):
            directory = open_directory(target.parent)  # now, because after the rename there is no way back
        try:
            self._sync_bytes()  # bytes before name: whoever finds the name finds all of them
            with refusing("publish", missing=StagingGone):
                disk.rename(self._path, target)
            disk.sync(directory)  # name before answer: only after this may the catalog point at it
        finally:
            os.close(directory)

    def _sync_bytes(self) -> None:
        try:
            self._parts.disk.sync(self._fd)
        except StoreFailed:
            # The page cache would now vouch for bytes that the disk may not have, after a restart too. Give them up.
            self._running = None
            with suppress(OSError):
                self._parts.disk.unlink(self._path)
            raise


def _buffer() -> memoryview:
    """This thread's own, for the length of one job."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(READ_BYTES))
    found: memoryview = _local.buffer
    return found


async def _done(job: asyncio.Future[Any] | None) -> None:
    if job is None:
        return
    if not job.done():
        await asyncio.wait({job})
    if not job.cancelled():
        job.exception()  # whoever started it was told, or will meet the same
