"""Whose turn it is to write a SQLite file, among processes that all write much.

SQLite lets whoever asks at the right moment begin; who waits asks again after up to 100 ms, so that one process can
keep another out for seconds. Here who has written goes behind who waits. It is a matter of fairness alone: what is
right is the transaction's, and who does not get its turn in time begins all the same.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 5.0  # for a process that holds it and stands still
LOOK_SECONDS = 0.0003  # a COMMIT takes some 10 times as long
_NEXT, _TURN = 0, 1  # bytes of the file that are locked (fcntl(2)): to be the next one; to write


class Turn:
    """A process's place in the row. Used by one thread; the locks end with the process."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Order: become the next one, get the turn, let another become the next. So who gives it back and wants it
        again finds that somebody else is the next one."""
        until = time.monotonic() + PATIENCE_SECONDS
        is_next = self._lock(_NEXT, until)
        has_turn = is_next and self._lock(_TURN, until)
        if is_next:
            self._unlock(_NEXT)
        try:
            yield
        finally:
            if has_turn:
                self._unlock(_TURN)

    def close(self) -> None:
        os.close(self._fd)

    def _lock(self, byte: int, until: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # POSIX allows either for "another has it"
                if time.monotonic() > until:
                    return False
                time.sleep(LOOK_SECONDS)
            else:
                return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)
