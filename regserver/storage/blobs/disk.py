"""The system calls whose failure or order decides what survives. Tests put a failing or recording ``Disk`` in place."""

from __future__ import annotations

import errno
import os
import queue
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from regserver.storage.blobs.port import StoreFailed
from regserver.storage.blobs.splicing import Pipe

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def refusing(step: str, *, missing: type[Exception] | None = None) -> Iterator[None]:
    """Turns an OSError into StoreFailed, or a missing file into ``missing``. The message never holds a path."""
    try:
        yield
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise missing from None
        raise failure(step, error) from None


def failure(step: str, error: OSError, *, fatal: bool = False) -> StoreFailed:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StoreFailed(f"{step}: {reason}", full=error.errno in _NO_SPACE, fatal=fatal)


def open_directory(path: Path) -> int:
    """Opens a directory to be synced. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class Disk:
    """One per store. After a failed sync it syncs no more: the kernel reports lost pages once and then calls them
    clean, so a second try would succeed without the bytes. Only a new process, which reads what is there, goes on.
    """

    def __init__(self) -> None:
        self._lost: StoreFailed | None = None
        self._made: set[Path] = set()

    def writev(self, fd: int, parts: Sequence[memoryview]) -> int:
        return os.writev(fd, parts)

    def drain(self, pipe: Pipe, fd: int, count: int) -> int:
        return pipe.drain(fd, count)

    def begin_writeback(self, fd: int, start: int, length: int) -> None:
        """Sends dirty pages on their way, so that a later sync finds little left. A hint: what fails shows at the sync.

        "Not needed" is what says so; pages that are still dirty stay in memory, so a pull right after the push is fast.
        """
        with suppress(OSError):
            os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)  # FileExistsError where a file has the name

    def check(self) -> None:
        """Raises StoreFailed(fatal) once any sync has failed."""
        if self._lost is not None:
            raise StoreFailed(str(self._lost), full=self._lost.full, fatal=True)

    def sync(self, fd: int) -> None:
        """Makes a file's bytes or a directory's names durable. Raises StoreFailed(fatal), now and from then on."""
        self.check()
        try:
            self.fsync(fd)
        except OSError as error:
            self._lost = failure("sync", error, fatal=True)
            self.check()

    def sync_directory(self, path: Path) -> None:
        """Makes the names in a directory durable. A directory that is missing has none."""
        self.check()
        try:
            with refusing("open a directory", missing=FileNotFoundError):
                fd = open_directory(path)
        except FileNotFoundError:
            return
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: Path) -> None:
        """Makes a directory durably. One that exists may be the work of a process that died before its sync."""
        if path in self._made:
            return
        with refusing("make a directory"):
            self.mkdir(path)
        self.sync_directory(path.parent)
        self._made.add(path)


class Removals:
    """Unlinks, and remembers which directories owe a sync for it. Its methods run in threads."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._owing: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._turn = threading.Lock()

    def remove(self, names: Sequence[Path]) -> int:
        """Unlinks the first of a file's possible names that is there; none is no error. Returns the bytes given back: 0
        if another was first or links remain.

        The directories owe a sync even then: whoever was first may have died before it.
        """
        for path in names:
            try:
                with refusing("remove", missing=FileNotFoundError):
                    found = path.lstat()
                    self._disk.unlink(path)
            except FileNotFoundError:
                continue
            finally:
                self._owing.put(path.parent)
            return found.st_size if found.st_nlink == 1 and stat.S_ISREG(found.st_mode) else 0
        return 0

    def sync(self) -> None:
        """Returns after every remove that had returned before is durable, whichever caller's sync does it."""
        with self._turn:
            for directory in self._taken():
                self._disk.sync_directory(directory)

    def _taken(self) -> list[Path]:
        taken: set[Path] = set()
        with suppress(queue.Empty):
            while True:
                taken.add(self._owing.get_nowait())
        return sorted(taken)
