"""Where a body ends, for bytes that the framework's parser does not see (RFC 9112 §6, §7.1).

Strict: what is not exactly in the form of the RFC is ``broken``, and nothing behind it is looked at."""

from __future__ import annotations

import re
from typing import Final, Protocol

MOST_LINE: Final = 4096  # bytes of a chunk's size with its extensions
MOST_TRAILERS: Final = 16 * 1024

_SIZE = re.compile(rb"\r\n([0-9a-fA-F]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]{0,4000})?\r\n")
_END = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")


class Framing(Protocol):
    """``complete``: the body has ended, or is ``broken``; ``rest`` is then what came behind its end."""

    complete: bool
    broken: bool
    rest: bytes

    @property
    def sure(self) -> int:
        """So many bytes will come at least, if the sender does as it said."""

    def decode(self, received: memoryview) -> list[memoryview]:
        """The body's own among the bytes that came, in order. They are the receiver's as long as the buffer is."""


class Counted:
    """A body of known length, of which ``left`` bytes are to come."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.complete, self.broken, self.rest = left == 0, False, b""

    @property
    def sure(self) -> int:
        return self.left

    def passed(self, count: int) -> None:
        """So many were taken without being looked at."""
        self.left -= count
        self.complete = not self.left

    def decode(self, received: memoryview) -> list[memoryview]:
        part = received[: self.left]
        self.left -= len(part)
        if not self.left:
            self.complete, self.rest = True, bytes(received[len(part) :])
        return [part]


class Chunked:
    """A chunked body in the middle of a chunk, of which ``left`` bytes are to come."""

    def __init__(self, left: int) -> None:
        self.complete, self.broken, self.rest = False, False, b""
        self._left = left
        self._last = False  # the chunk of size 0 has come; trailers, which nobody asked for, and an empty line follow
        self._held = b""  # the beginning of what does not belong to the body, until the whole of it is here

    @property
    def sure(self) -> int:
        return self._left + len(b"\r\n0\r\n\r\n") if self._left else 1

    def decode(self, received: memoryview) -> list[memoryview]:
        if self._held:
            received, self._held = memoryview(self._held + received), b""
        parts, at = [], 0
        while at < len(received) and not self.complete:
            if self._left:
                parts.append(part := received[at : at + self._left])
                self._left -= len(part)
                at += len(part)
            elif self._last:
                at = self._end(received, at)
            else:
                at = self._size(received, at)
        if self.complete and not self.broken:
            self.rest = bytes(received[at:])
        return parts

    def _size(self, received: memoryview, at: int) -> int:
        found = _SIZE.match(received, at)
        if found is None:
            return self._hold(bytes(received[at : at + MOST_LINE]), at, MOST_LINE)
        self._left = int(found[1], 16)
        self._last = not self._left
        return found.end()

    def _end(self, received: memoryview, at: int) -> int:
        found = _END.match(received, at)
        if found is None:
            return self._hold(bytes(received[at : at + MOST_TRAILERS]), at, MOST_TRAILERS)
        self.complete = True
        return found.end()

    def _hold(self, begun: bytes, at: int, most: int) -> int:
        wrong = not self._last and (not b"\r\n".startswith(begun[:2]) or b"\n" in begun[2:])
        if wrong or b"\r\n\r\n" in begun[1:] or len(begun) == most:
            self.complete = self.broken = True
            return at
        self._held = begun
        return at + len(begun)
