"""The format of a backup: one tar, plain or in zstd, that `tar` can list and `sha256sum` can check.

    backup.json              first: format, id, the backup that it adds to, SHA-256 of the files below
    catalog.sqlite3          the copied catalog
    keys/<key id>.pem        the signing keys; <key id>.pub.pem
    admin-token              where there is one
    blobs/<algorithm>/<hex>  the bytes of a blob, named by their digest

It is written under FILE.partial, readable by its owner alone, and named FILE when it is durable and whole. What is read
may be anything: a name that is not in this list is refused, and so is whatever no tar begins with.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import zstandard

from regserver.model.digest import FORM, Digest
from regserver.model.ids import is_id

FORMAT = 1
HEADER, CATALOG, ADMIN_TOKEN, KEYS = "backup.json", "catalog.sqlite3", "admin-token", "keys/"
SUFFIXES = (".tar", ".tar.zst")
CHUNK = 2**20
_LEVEL = 3  # most layers are compressed already: more costs time and gains nothing
_LONGEST_HEADER = 2**22
_ZSTD = b"\x28\xb5\x2f\xfd"
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)", re.ASCII)
_KEY = re.compile(r"keys/(key_[0-9a-v]+)(\.pub)?\.pem", re.ASCII)

Step = Callable[[int], None]  # bytes that went by; what it raises ends the work


class ArchiveFailed(Exception):
    """An archive cannot be written or read. One line for a person."""


@dataclass(frozen=True, slots=True)
class Header:
    """``since`` is the id of the backup whose blobs this one leaves out; ``blobs`` and ``bytes`` are what it holds.

    ``files``: the SHA-256, in hex, of each file that is no blob.
    """

    backup: str
    since: str | None
    made_at: str
    version: str
    blobs: int
    bytes: int
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive, to be read before the next one is asked for. ``digest`` None: it is no blob."""

    name: str
    size: int
    file: IO[bytes]
    digest: Digest | None = None


def is_archive_name(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and path.name not in SUFFIXES


class Writer:
    """An archive on its way. ``finish`` or ``discard`` ends it; one that is left lying is FILE.partial."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveFailed: another backup is writing that file, or nothing can be written there."""
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        with _writing(path):
            self._file = exclusive(self._partial)
        self._stream: Any = self._file
        if path.name.endswith(".zst"):
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
            self._stream = compressor.stream_writer(self._file, closefd=False)
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._tar.copybufsize = CHUNK  # type: ignore[attr-defined]

    def header(self, header: Header) -> None:
        self.content(HEADER, json.dumps({"format": FORMAT, **asdict(header)}, indent=1).encode())

    def content(self, name: str, content: bytes) -> None:
        self.file(name, len(content), BytesIO(content))

    def file(self, name: str, size: int, source: Any) -> None:
        """``source.read`` must give ``size`` bytes. Raises ArchiveFailed, and whatever ``source`` raises of its own."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        with _writing(self._path):
            self._tar.addfile(entry, source)

    def blob(self, digest: Digest, size: int, fd: int, step: Step) -> bool:
        """Adds the open file, hashed as it goes by. False: what is in the archive now is not what the digest names."""
        source = _Hashed(fd, size, digest, step)
        self.file(blob_name(digest), size, source)
        return source.matches

    def finish(self, path: Path | None = None) -> Path:
        """Bytes before name: the end of the archive, fsync, rename, fsync of the folder. Raises ArchiveFailed."""
        final = path or self._path
        with _writing(final):
            self._tar.close()
            if self._stream is not self._file:
                self._stream.close()  # the frame's end and its checksum
            self._file.flush()
            os.fsync(self._file.fileno())
            self._partial.rename(final)
            sync_directory(final.parent)
            self._file.close()
        return final

    def discard(self) -> None:
        with suppress(FileNotFoundError):
            self._partial.unlink()
        self._file.close()


class _Hashed:
    """A file that gives exactly ``size`` bytes, with zeros for those that are missing or cannot be read."""

    def __init__(self, fd: int, size: int, digest: Digest, step: Step) -> None:
        self._fd, self._left, self._digest, self._step = fd, size, digest, step
        self._hasher = digest.algorithm.hasher()
        self._whole = os.fstat(fd).st_size == size

    @property
    def matches(self) -> bool:
        return self._whole and self._left == 0 and self._hasher.hexdigest() == self._digest.hex

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        try:
            found = os.read(self._fd, wanted) if self._whole else b""
        except OSError:  # a bad sector
            found, self._whole = b"", False
        if not found and wanted:
            found, self._whole = bytes(wanted), False
        self._left -= len(found)
        self._hasher.update(found)
        self._step(len(found))
        return found


@contextmanager
def opened(path: Path, step: Step) -> Iterator[tuple[Header, Iterator[Entry]]]:
    """An archive to be read from its beginning: its header, then what follows it, in order.

    ``step`` hears of the bytes of the file that were read. Raises ArchiveFailed, OSError, also from the iterator.
    """
    with _reading(path), path.open("rb") as file:
        begins = file.read(len(_ZSTD))
        file.seek(0)
        stream: Any = _Counted(file, step)
        if begins == _ZSTD:
            stream = zstandard.ZstdDecompressor().stream_reader(stream, read_size=CHUNK, read_across_frames=True)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            entries = _entries(path, tar, stream)
            first = next(entries, None)
            if first is None or first.name != HEADER or first.size > _LONGEST_HEADER:
                raise ArchiveFailed(f"{path}: this is no backup of regserver")
            yield _parse_header(path, first.file.read()), entries


def read_header(path: Path) -> Header:
    """Raises ArchiveFailed."""
    with opened(path, lambda _: None) as (header, _):
        return header


def blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


class _Counted:
    """A file whose reads are counted; for who decompresses it."""

    def __init__(self, file: IO[bytes], step: Step) -> None:
        self._file, self._step = file, step

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        self._step(len(found))
        return found


def _entries(path: Path, tar: tarfile.TarFile, stream: Any) -> Iterator[Entry]:
    with _reading(path):
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is None or not is_known(member.name):
                raise ArchiveFailed(f"{path}: it holds {member.name[:100]!r}, which no backup of this version has")
            yield Entry(member.name, member.size, file, _digest(member.name))
        while stream.read(CHUNK):  # to the checksum at the end of the compressed stream
            pass


def is_known(name: str) -> bool:
    key = _KEY.fullmatch(name)
    return name in {HEADER, CATALOG, ADMIN_TOKEN} or _digest(name) is not None or bool(key and is_id("key", key[1]))


def _digest(name: str) -> Digest | None:
    match = _BLOB.fullmatch(name)
    text = f"{match[1]}:{match[2]}" if match else ""
    return Digest(text) if re.fullmatch(FORM, text, re.ASCII) else None


def _parse_header(path: Path, content: bytes) -> Header:
    try:
        fields = json.loads(content)
        version = fields.pop("format")
        header = Header(**fields) if version == FORMAT else None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ArchiveFailed(f"{path}: the header of this backup is damaged") from None
    if header is None:
        raise ArchiveFailed(f"{path}: another version of regserver wrote this backup; restore it with that one")
    return header


def exclusive(path: Path) -> IO[bytes]:
    """The file, empty, 0600 from the start and locked. Raises ArchiveFailed, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "wb", buffering=CHUNK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)  # what a backup that was killed has left
    except BlockingIOError:
        file.close()
        raise ArchiveFailed(f"{path}: another backup is writing this file") from None
    return file


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveFailed(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise ArchiveFailed(f"{path}: the archive is damaged or cut off ({error})") from error
