"""The saved copy of the manifests: ``<root>/manifests.jsonl.zst``, for when the catalog is lost.

One JSON array a line, its first word says what it is:

    ["manifests", 1]                                         the first line: format 1
    ["tag", repository, name, digest]
    ["manifest", repository, digest, media type, content]    content: its bytes, each as the character of that number
    ["image", repository, registry id, name]
    ["registry", id, name, public, quota in bytes or null]
    ["end", lines]                                           the last line
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zstandard

from regserver.storage.archives import ArchiveFailed, exclusive, sync_directory

FILE = "manifests.jsonl.zst"
_FIRST = ["manifests", 1]
_LEVEL = 3

Line = list[Any]


class Writer:
    """Lines on their way into a new copy. ``finish`` puts it in the place of the last one, ``discard`` does not."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveFailed where another process writes one, OSError."""
        self._path, self._partial = path, path.with_name(f"{path.name}.new")
        self._file = exclusive(self._partial)
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._stream = compressor.stream_writer(self._file, closefd=False)
        self._lines = 0
        self.add([_FIRST])

    def add(self, lines: list[Line]) -> None:
        self._stream.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
        self._lines += len(lines)

    def finish(self) -> None:
        """Bytes before name: fsync, rename, fsync of the folder."""
        self.add([["end", self._lines]])
        self._stream.flush(zstandard.FLUSH_FRAME)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.rename(self._path)
        sync_directory(self._path.parent)
        self._file.close()

    def discard(self) -> None:
        with suppress(OSError):
            self._partial.unlink()
        self._file.close()


def read(path: Path) -> Iterator[Line]:
    """The lines of a copy but the first and the last. Raises ArchiveFailed, at its end too if it is not whole."""
    count, whole = 0, False
    try:
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            for text in lines:
                line = json.loads(text)
                if count == 0 and line != _FIRST:
                    break
                if whole := line == ["end", count]:
                    break
                if count:
                    yield line
                count += 1
    except (zstandard.ZstdError, ValueError, EOFError) as error:
        raise ArchiveFailed(f"{path}: this copy of the manifests is damaged ({type(error).__name__})") from error
    if not whole:
        raise ArchiveFailed(f"{path}: this is no copy of the manifests, or it is cut off")


def encode(content: bytes) -> str:
    return content.decode("latin-1")


def decode(text: str) -> bytes:
    return text.encode("latin-1")
