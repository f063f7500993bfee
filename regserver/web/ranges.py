"""Byte ranges of downloads (RFC 9110 §14) and of upload chunks (distribution spec, end-5): text to values."""

from __future__ import annotations

import re
from dataclasses import dataclass

from regserver.errors import ErrorCode, RegistryError

_SINGLE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
_CHUNK = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?", re.ASCII)
_BEYOND = 2**63  # what a number of too many digits means: past every end


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``start``; length is at least 1 in a download."""

    start: int
    length: int

    @property
    def last(self) -> int:
        return self.start + self.length - 1

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.last}/{size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The one range that ``Range`` asks of ``size`` bytes; None sends everything.

    Several ranges, other units and what is no range at all are ignored, as RFC 9110 §14.2 allows. Raises RegistryError
    RANGE_UNSATISFIABLE, with ``Content-Range: bytes */size``, for a range outside, or one that ends before it starts.
    """
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first:
        start, end = _number(first), min(_number(last) if last else size - 1, size - 1)
    else:
        start, end = max(size - _number(last), 0), size - 1
    if start >= size or end < start:
        raise RegistryError(ErrorCode.RANGE_UNSATISFIABLE, {"size": size}, headers={"Content-Range": f"bytes */{size}"})
    return ByteRange(start, end - start + 1)


def parse_chunk(header: str | None) -> ByteRange | None:
    """An upload chunk's ``Content-Range``: ``start-end``, both inclusive; HTTP's ``bytes start-end/size`` is tolerated.

    Raises RegistryError BLOB_UPLOAD_INVALID for anything else.
    """
    if header is None:
        return None
    match = _CHUNK.fullmatch(header.strip())
    if match is None or int(match.group(2)) < int(match.group(1)):
        raise RegistryError(
            ErrorCode.BLOB_UPLOAD_INVALID, {"content_range": header[:80]}, message="Content-Range is not <start>-<end>"
        )
    start, end = int(match.group(1)), int(match.group(2))
    return ByteRange(start, end - start + 1)


def received(offset: int) -> str:
    """The ``Range`` of a session that holds ``offset`` bytes. An empty one says 0-0: docker refuses an end before 0."""
    return f"0-{max(offset - 1, 0)}"


def matches(header: str | None, etag: str) -> bool:
    """``If-None-Match`` against a strong tag, by weak comparison (RFC 9110 §13.1.2)."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= 18 else _BEYOND
