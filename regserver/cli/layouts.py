"""OCI image layouts (image spec 1.1, "Image Layout") on this machine: a folder, or the same in one tar.

oci-layout                 {"imageLayoutVersion": "1.0.0"}
blobs/<algorithm>/<hex>    manifests, configs and layers by their digests
index.json                 what the layout is about, each with its name; written last
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from weakref import finalize

from regserver.cli.exits import FAILED, NOT_FOUND, USAGE, CommandError
from regserver.cli.words import plain
from regserver.errors import RegistryError
from regserver.model.digest import Digest
from regserver.model.mediatypes import OCI_INDEX

NAME = "org.opencontainers.image.ref.name"
MARKER, INDEX = "oci-layout", "index.json"
CHUNK = 2**20
_VERSION = {"imageLayoutVersion": "1.0.0"}
_LONGEST_DOCUMENT = 2**25

Descriptor = dict[str, Any]


class Writing(ABC):
    """A layout that is being written. ``add`` the blobs, then ``finish``."""

    @abstractmethod
    def has(self, digest: str) -> bool:
        """Whether the blob is there already, whole."""

    @abstractmethod
    def add(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        """``chunks`` raises where its bytes are not what the digest says; then nothing of that name is there."""

    @abstractmethod
    def finish(self, descriptors: Sequence[Descriptor]) -> None:
        """Writes the index, which makes all of it a layout."""


class Folder(Writing):
    """A new folder, or a layout that is there: names that it has already move, everything else stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _failing(path):
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()) and not (path / MARKER).exists():
                raise CommandError(f"{path} holds something that is no image layout", USAGE, hint="name a new folder")
            (path / MARKER).write_text(json.dumps(_VERSION))
        self._earlier = FolderSource(path).descriptors() if (path / INDEX).exists() else []

    def has(self, digest: str) -> bool:
        known = Digest.parse(digest)
        hasher = known.algorithm.hasher()
        try:
            with self._blob(known).open("rb") as file:
                while chunk := file.read(CHUNK):
                    hasher.update(chunk)
        except FileNotFoundError:
            return False
        return hasher.hexdigest() == known.hex

    def add(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        path = self._blob(Digest.parse(digest))
        staged = path.with_name(f".{path.name}.partial")
        try:
            with _failing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with staged.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                staged.replace(path)
        except BaseException:
            with suppress(OSError):
                staged.unlink()
            raise

    def finish(self, descriptors: Sequence[Descriptor]) -> None:
        staged = self._path / f".{INDEX}.partial"
        with _failing(self._path):
            staged.write_bytes(index_of(_merged(self._earlier, descriptors)))
            staged.replace(self._path / INDEX)

    def _blob(self, digest: Digest) -> Path:
        return self._path / "blobs" / digest.algorithm / digest.hex


class Archive(Writing):
    """A new tar: it has its name once it is whole."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise CommandError(f"{path} exists", USAGE, hint="choose another name, or delete it first")
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        self._known: set[str] = set()
        with _failing(path):
            self._file = self._partial.open("wb", buffering=CHUNK)
            self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._put(MARKER, json.dumps(_VERSION).encode())

    def has(self, digest: str) -> bool:
        return digest in self._known

    def add(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        known = Digest.parse(digest)
        entry = _entry(f"blobs/{known.algorithm}/{known.hex}", size)
        with _failing(self._path):
            source = _Chunks(iter(chunks))
            self._tar.addfile(entry, source)  # type: ignore[arg-type]
            source.end()
        self._known.add(digest)

    def finish(self, descriptors: Sequence[Descriptor]) -> None:
        with _failing(self._path):
            self._put(INDEX, index_of(descriptors))
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())  # bytes before name
            self._file.close()
            self._partial.rename(self._path)

    def discard(self) -> None:
        self._file.close()
        with suppress(OSError):
            self._partial.unlink()

    def _put(self, name: str, content: bytes) -> None:
        self._tar.addfile(_entry(name, len(content)), io.BytesIO(content))


class Source(ABC):
    """A layout that is there. Its bytes are not believed: the registry checks every digest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def open(self, name: str) -> tuple[int, IO[bytes]]:
        """Size and bytes of a file of the layout. Raises FileNotFoundError."""

    def descriptors(self) -> list[Descriptor]:
        """What index.json lists."""
        document = self._document(INDEX)
        found = document.get("manifests") if isinstance(document, dict) else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise CommandError(f"{self.path}: {INDEX} is no index", USAGE, hint="is it an OCI image layout?")
        return [dict(one) for one in found]

    def blob(self, digest: str) -> tuple[int, IO[bytes]]:
        try:
            known = Digest.parse(digest)
            return self.open(f"blobs/{known.algorithm}/{known.hex}")
        except (RegistryError, FileNotFoundError):
            raise CommandError(
                f"{self.path} lacks {plain(digest)}", NOT_FOUND, hint="the layout is not whole"
            ) from None

    def has(self, digest: str) -> bool:
        try:
            self.blob(digest)[1].close()
        except CommandError:
            return False
        return True

    def read(self, digest: str) -> bytes:
        """A manifest; at most 32 MiB."""
        _, file = self.blob(digest)
        with file:
            return file.read(_LONGEST_DOCUMENT)

    def _document(self, name: str) -> Any:
        try:
            _, file = self.open(name)
            with file:
                return json.loads(file.read(_LONGEST_DOCUMENT))
        except (FileNotFoundError, ValueError):
            hint = "name the folder or tar that holds index.json"
            raise CommandError(f"{self.path} is no OCI image layout", USAGE, hint=hint) from None


class FolderSource(Source):
    def open(self, name: str) -> tuple[int, IO[bytes]]:
        file = (self.path / name).open("rb")
        return os.fstat(file.fileno()).st_size, file


class ArchiveSource(Source):
    """A tar is read from place to place, so it must be a file, best one that is not compressed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _failing(path):
            try:
                self._tar = tarfile.open(path)  # noqa: SIM115
                finalize(self, self._tar.close)
                self._members = {member.name.removeprefix("./"): member for member in self._tar if member.isreg()}
            except tarfile.TarError:
                raise CommandError(f"{path} is no tar, or is cut off", USAGE) from None

    def open(self, name: str) -> tuple[int, IO[bytes]]:
        member = self._members.get(name)
        file = self._tar.extractfile(member) if member else None
        if member is None or file is None:
            raise FileNotFoundError(name)
        return member.size, file


def source(path: Path) -> Source:
    """Raises CommandError where there is neither folder nor file."""
    if path.is_dir():
        return FolderSource(path)
    if path.exists():
        return ArchiveSource(path)
    raise CommandError(f"{path}: there is no such folder or file", NOT_FOUND)


@contextmanager
def writing(path: Path) -> Iterator[Writing]:
    """A tar where the name ends in .tar, else a folder. A tar that was not finished is gone."""
    if path.name.endswith(".tar"):
        archive = Archive(path)
        try:
            yield archive
        except BaseException:
            archive.discard()
            raise
    else:
        yield Folder(path)


def index_of(descriptors: Sequence[Descriptor]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}, indent=1).encode()


def name_of(descriptor: Descriptor) -> str | None:
    annotations = descriptor.get("annotations")
    name = annotations.get(NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _merged(earlier: Sequence[Descriptor], new: Sequence[Descriptor]) -> list[Descriptor]:
    """A name is one image's: whoever had it is listed no more. What has no name is listed once."""
    taken = {(name_of(one), None if name_of(one) else one["digest"]) for one in new}
    kept = [one for one in earlier if (name_of(one), None if name_of(one) else one.get("digest")) not in taken]
    return [*kept, *new]


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


class _Chunks:
    """Chunks as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def end(self) -> None:
        """To the end of the chunks, which is where they are found to be right or wrong."""
        for _ in self._chunks:
            pass


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{error.filename or path}: {error.strerror or error}", FAILED) from None
