"""What a layer holds, read as a stream: names, sizes and hashes, never a file on the disk.

A layer is whatever somebody pushed. Its reader keeps to limits of time, bytes, entries and text, takes no size from a
header into memory, and follows no name anywhere: a name is only ever shown. Formats: POSIX.1-2017 pax and ustar, GNU
tar; plain, gzip (RFC 1952) or zstd (RFC 8878), by their first bytes.
"""

from __future__ import annotations

import hashlib
import io
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from gzip import GzipFile
from typing import BinaryIO, NamedTuple, Protocol

import zstandard

BLOCK = 512
PIECE = 64 * 1024
WINDOW = 2**27  # bytes of memory that a zstd frame may ask for (RFC 8878 §3.1.1.1.2 recommends at least 8 MiB)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"  # image spec, "Whiteouts"
_EXTENDED, _MORE = 482, 504  # where GNU tar says that a map of a sparse file goes on
_KINDS = {b"1": "hard", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe"}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one reading may cost."""

    seconds: float = 15.0
    unpacked: int = 8 * 2**30  # bytes behind the compression
    entries: int = 100_000
    text: int = 16 * 2**20  # characters of all names together
    name: int = 1024  # characters of one name; what is longer is shown cut
    header: int = 2**20  # bytes of one extended header


class Ending(StrEnum):
    """How a reading came to its end."""

    WHOLE = "whole"
    TIME = "time"
    UNPACKED = "unpacked"
    ENTRIES = "entries"
    TEXT = "text"
    DAMAGED = "damaged"
    NOT_TAR = "not_tar"


class Entry(NamedTuple):
    """``path`` is printable, without empty parts or dots, and may begin with ``..``. ``kind``: file, folder, link,
    hard, device, pipe, removed (a whiteout), opaque. ``hash``: of a file's bytes, to tell whether two are the same."""

    path: str
    kind: str
    size: int
    mode: int
    target: str
    hash: str
    odd: bool  # absolute, or it leads outside


@dataclass(frozen=True, slots=True)
class Listing:
    """``unpacked``: bytes read behind the compression."""

    entries: list[Entry] = field(default_factory=list)
    ending: Ending = Ending.WHOLE
    unpacked: int = 0


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Stop(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def read(file: BinaryIO, limits: Limits, clock: Callable[[], float] = time.monotonic) -> Listing:
    """The listing of a layer, as far as the limits let it come. Raises OSError of the file's medium."""
    reader = _Reader(file, limits, clock)
    try:
        reader.run()
    except _Stop as stop:
        return Listing(reader.entries, stop.ending, reader.unpacked)
    except (zlib.error, EOFError, zstandard.ZstdError):
        return Listing(reader.entries, Ending.DAMAGED, reader.unpacked)
    except OSError as error:
        if error.errno is not None:
            raise
        return Listing(reader.entries, Ending.DAMAGED, reader.unpacked)  # gzip's own word for a bad archive
    # A frame that is cut before its first block gives nothing, and no error either.
    ending = Ending.DAMAGED if not reader.unpacked and file.seek(0, io.SEEK_END) else Ending.WHOLE
    return Listing(reader.entries, ending, reader.unpacked)


class _Watched(io.RawIOBase):
    """The file, and a look at the clock with each read: a header of a gigabyte is read byte by byte."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        self._check()
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class _Reader:
    def __init__(self, file: BinaryIO, limits: Limits, clock: Callable[[], float]) -> None:
        self.entries: list[Entry] = []
        self.unpacked = 0
        self._limits = limits
        self._clock = clock
        self._until = clock() + limits.seconds
        self._text = 0
        self._plain = _plain(file, self._check)

    def _check(self) -> None:
        if self._clock() > self._until:
            raise _Stop(Ending.TIME)

    def run(self) -> None:
        extended: dict[str, str] = {}
        while header := self._header():
            kind, size = header[156:157], _number(header[124:136])
            if kind in (_LONG_NAME, _LONG_LINK, _PAX):
                extended |= self._extended(kind, size)
            elif kind == _PAX_GLOBAL:
                self._skip(size)
            else:
                self._member(header, kind, size, extended)
                extended = {}

    def _header(self) -> bytes | None:
        """The next header; None at the end, which two empty blocks or no more bytes tell."""
        block = self._take(BLOCK, short=True)
        if (len(block) == BLOCK and not any(block)) or not block:
            return None
        if len(block) < BLOCK or sum(block[:148]) + sum(block[156:]) + 8 * 32 != _number(block[148:156]):
            raise _Stop(Ending.DAMAGED if self.entries else Ending.NOT_TAR)
        return block

    def _extended(self, kind: bytes, size: int) -> dict[str, str]:
        if not 0 <= size <= self._limits.header:
            raise _Stop(Ending.DAMAGED)
        content = self._take(size)
        self._take(-size % BLOCK)
        if kind == _PAX:
            return _records(content)
        return {"path" if kind == _LONG_NAME else "linkpath": _decoded(content.rstrip(b"\0"))}

    def _member(self, header: bytes, kind: bytes, size: int, extended: dict[str, str]) -> None:
        name = extended.get("path") or _name(header)
        target = extended.get("linkpath") or _decoded(header[157:257].partition(b"\0")[0])
        if (stated := extended.get("size", "")).isdecimal() and len(stated) < 20:
            size = int(stated)
        sparse = kind == _SPARSE
        more = sparse and header[_EXTENDED] != 0
        while more:
            more = self._take(BLOCK)[_MORE] != 0
        word = _KINDS.get(kind, "file")
        if word != "file":
            size = 0  # POSIX: nothing follows a link, a folder or a device, whatever its size says
        aim = target if word in ("link", "hard") else ""
        self._note(name, word, size, _number(header[100:108]) & 0o7777, aim)

    def _note(self, name: str, kind: str, size: int, mode: int, target: str) -> None:
        if len(self.entries) >= self._limits.entries:
            raise _Stop(Ending.ENTRIES)
        path, odd = clean(name)
        path, kind = _meant(path, kind)
        shown, aim = _cut(path, self._limits.name), _cut(printable(target), self._limits.name)
        self._text += len(shown) + len(aim)
        if self._text > self._limits.text:
            raise _Stop(Ending.TEXT)
        digest = self._hash(size) if kind in ("file", "removed", "opaque") else ""
        if shown or kind != "folder":  # the root of the layer is no entry of it
            self.entries.append(Entry(shown, kind, size, mode, aim, digest, odd))

    def _hash(self, size: int) -> str:
        if size < 0:
            raise _Stop(Ending.DAMAGED)
        hasher, left = hashlib.sha256(), size
        while left:
            piece = self._take(min(PIECE, left))
            hasher.update(piece)
            left -= len(piece)
        self._take(-size % BLOCK)
        return hasher.hexdigest()[:16]

    def _skip(self, size: int) -> None:
        self._hash(size)

    def _take(self, count: int, *, short: bool = False) -> bytes:
        """So many bytes. Raises _Stop where there are fewer, unless ``short``, and beyond a limit."""
        parts, left = [], count
        while left:
            self._check()
            part = self._plain.read(left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        self.unpacked += count - left
        if self.unpacked > self._limits.unpacked:
            raise _Stop(Ending.UNPACKED)
        if left and not short:
            raise _Stop(Ending.DAMAGED)
        return b"".join(parts)


def _plain(file: BinaryIO, check: Callable[[], None]) -> Readable:
    """The bytes behind the compression, which the first ones tell: a media type is only what somebody says."""
    magic = file.read(4)
    file.seek(0)
    watched = io.BufferedReader(_Watched(file, check), PIECE)
    if magic[:2] == b"\x1f\x8b":
        return GzipFile(fileobj=watched)
    if magic == b"\x28\xb5\x2f\xfd" or (magic[1:] == b"\x2a\x4d\x18" and magic[:1] >= b"\x50"):
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return decompressor.stream_reader(watched, read_across_frames=True)
    return watched


def _number(field_: bytes) -> int:
    """Octal as ustar has it, or GNU's base 256 (POSIX.1-2017 pax, "ustar Interchange Format"); nonsense is -1."""
    if field_[:1] >= b"\x80":
        return int.from_bytes(bytes([field_[0] & 0x7F]) + field_[1:], "big") if field_[0] != 0xFF else -1
    text = field_.replace(b"\0", b" ").strip()
    if not text:
        return 0
    return int(text, 8) if text.isdigit() and not set(text) & set(b"89") else -1


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _decoded(prefix + b"/" + name if prefix else name)


def _meant(path: str, kind: str) -> tuple[str, str]:
    """(the path that an entry is about, its kind): a whiteout is about another one."""
    folder, slash, name = path.rpartition("/")
    if name == _OPAQUE:
        return folder, "opaque"
    if name.startswith(_WHITEOUT):
        return f"{folder}{slash}{name.removeprefix(_WHITEOUT)}", "removed"
    return path, kind


def _records(content: bytes) -> dict[str, str]:
    """``path``, ``linkpath`` and ``size`` of an extended header (POSIX.1-2017 pax, "pax Extended Header")."""
    found: dict[str, str] = {}
    place = 0
    while place < len(content):
        space = content.find(b" ", place, place + 20)
        digits = content[place:space] if space > 0 else b""
        if not digits.isdigit() or int(digits) <= len(digits):
            break
        key, _, value = content[space + 1 : place + int(digits)].removesuffix(b"\n").partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = _decoded(value)
        place += int(digits)
    return found


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def clean(name: str) -> tuple[str, bool]:
    """(the path as it is shown, whether it is absolute or leads outside)."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return printable("/".join(parts)), name.startswith("/") or ".." in parts


def printable(text: str) -> str:
    """With everything written out that a browser or a terminal would obey instead of showing it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
