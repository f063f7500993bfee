"""From a socket into a file without a copy of ours: the kernel hands the pages on through a pipe (splice(2), Linux)."""

from __future__ import annotations

import fcntl
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PIPE_BYTES: Final = 2**20  # what everybody may ask for (/proc/sys/fs/pipe-max-size); less where there is no more


class Pipe:
    """Empty between two uses: what was filled in is drained before anybody else gets it."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def fill(self, source: int, count: int) -> int:
        """Bytes taken from a socket that does not block; 0 at its end. Raises BlockingIOError, OSError."""
        return os.splice(source, self._in, count, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)

    def drain(self, target: int, count: int) -> int:
        """Bytes appended to a file at its position, perhaps fewer than ``count``. Raises OSError."""
        return os.splice(self._out, target, count, flags=os.SPLICE_F_MOVE)

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


class Pipes:
    """As many as threads have used at once, kept until ``close``."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[Pipe] = queue.SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[Pipe]:
        """Raises OSError where there are no descriptors left."""
        pipe = self._taken() or Pipe()
        try:
            yield pipe
        except BaseException:
            pipe.close()  # there may be something in it
            raise
        self._idle.put(pipe)

    def _taken(self) -> Pipe | None:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        return None

    def close(self) -> None:
        while (pipe := self._taken()) is not None:
            pipe.close()
