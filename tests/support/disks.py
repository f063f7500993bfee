"""Disks that write down what is asked of them, refuse, or dawdle."""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from regserver.storage.blobs.disk import Disk


def name_of(fd: int) -> str:
    return Path(f"/proc/self/fd/{fd}").readlink().name


class RecordingDisk(Disk):
    """``effects``: what was done, in order, with the last part of each name: ``("rename", "…", "…")``."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[tuple[str, ...]] = []

    def writev(self, fd: int, parts: Sequence[memoryview]) -> int:
        self.effects.append(("write", name_of(fd)))
        return super().writev(fd, parts)

    def begin_writeback(self, fd: int, start: int, length: int) -> None:
        self.effects.append(("flush", name_of(fd), str(start), str(length)))
        super().begin_writeback(fd, start, length)

    def fsync(self, fd: int) -> None:
        self.effects.append(("sync", name_of(fd)))
        super().fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.effects.append(("rename", source.name, target.name))
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.effects.append(("unlink", path.name))
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self.effects.append(("mkdir", path.name))
        super().mkdir(path)


class FailingDisk(RecordingDisk):
    """Fails as told: ``fail["rename"] = errno.EIO``; "sync file" and "sync directory" apart. Goes on failing."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: dict[str, int] = {}

    def _refuse(self, operation: str) -> None:
        if (number := self.fail.get(operation)) is not None:
            raise OSError(number, os.strerror(number), "/a/path/that/nobody/may/see")

    def fsync(self, fd: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        super().fsync(fd)
        self._refuse(f"sync {kind}")

    def rename(self, source: Path, target: Path) -> None:
        self._refuse("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._refuse("unlink")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._refuse("mkdir")
        super().mkdir(path)


class ShortDisk(Disk):
    """Writes only so many bytes at a time, as ``steps`` says; a negative step is an errno. Afterwards a sound disk."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps = deque(steps)

    def writev(self, fd: int, parts: Sequence[memoryview]) -> int:
        if not self.steps:
            return super().writev(fd, parts)
        if (step := self.steps.popleft()) < 0:
            raise OSError(-step, os.strerror(-step))
        return os.write(fd, b"".join(parts)[:step])


class SlowDisk(Disk):
    """Once ``slow``, a write says that it has begun and waits until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.fd = -1

    def writev(self, fd: int, parts: Sequence[memoryview]) -> int:
        if self.slow:
            self.fd = fd
            self.begun.set()
            self.go_on.wait(60)
        return super().writev(fd, parts)
