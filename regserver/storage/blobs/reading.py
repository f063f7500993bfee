"""A published file read again from end to end, to see whether it still is what its name says."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.disk import failure
from regserver.storage.blobs.port import Pace, Rehashed, Unreadable
from regserver.storage.blobs.staging import Jobs

READ_BYTES = 2**20
_LOST = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})  # of the medium; EUCLEAN: the filesystem found it damaged


class _Reading:
    """One file in the threads, a piece at a time. Raises Unreadable where bytes are lost, else StoreFailed."""

    def __init__(self, path: Path, algorithm: Algorithm) -> None:
        self._path = path
        self._algorithm = algorithm
        self._hasher = algorithm.hasher()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._fd = -1
        self._offset = 0

    def open(self) -> bool:
        """False if there is no such file."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _told(error) from None
        self._forget_pages(0)
        return True

    def read(self) -> int:
        """Hashes the next piece; returns its bytes, 0 at the end."""
        try:
            count = os.preadv(self._fd, [self._buffer], self._offset)
        except OSError as error:
            raise _told(error) from None
        self._hasher.update(self._buffer[:count])
        self._forget_pages(self._offset, count)
        self._offset += count
        return count

    def _forget_pages(self, start: int, length: int = 0) -> None:
        """What was read from memory would vouch for memory. And a scrub must not push other blobs out of it."""
        with suppress(OSError):
            os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)

    def result(self) -> Rehashed:
        return Rehashed(Digest(f"{self._algorithm}:{self._hasher.hexdigest()}"), self._offset)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _told(error: OSError) -> Exception:
    told = failure("read a blob again", error)
    return Unreadable(str(told)) if error.errno in _LOST else told


async def rehash(jobs: Jobs, path: Path, algorithm: Algorithm, pace: Pace) -> Rehashed | None:
    """As in the port. Cancelled, it lets the piece under way end before it gives the descriptor back."""
    reading = _Reading(path, algorithm)
    job: asyncio.Future[Any] = jobs.start(reading.open)
    try:
        if not await asyncio.shield(job):
            return None
        job = jobs.start(reading.read)
        while count := await asyncio.shield(job):
            await pace(count)
            job = jobs.start(reading.read)
        return reading.result()
    finally:
        if job.done():
            reading.close()
        else:
            job.add_done_callback(lambda _: reading.close())
