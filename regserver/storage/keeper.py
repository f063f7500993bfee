"""One of the processes on a folder: whoever holds the lock, until it ends, however it ends (flock(2)).

It saves the same work from being done twice and decides nothing else: where two hold it, since a filesystem does not
share its locks between machines, everything is as safe as with one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FILE = "keeper"


class KeeperLock:
    """Of ``<root>/keeper``, which stays there when nobody holds it."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._fd = -1

    def take(self) -> bool:
        """Whether it is held now, without waiting. Raises OSError."""
        if self._fd >= 0:
            return True
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
