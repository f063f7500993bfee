"""A root folder from a backup, or from one and those that add to it.

The order of effects: everything is written into a folder beside the root and hashed on its way → the catalog is read
through, and every row of it has its file → fsync of files and folders → rename onto the root → fsync of its parent. So
there is no moment at which a server could find half of it; a restore that dies leaves the folder, and no root.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from regserver.model.digest import Algorithm, Digest, Hasher
from regserver.storage import archives
from regserver.storage.archives import CATALOG, CHUNK, ArchiveFailed, Entry, Header, sync_directory
from regserver.storage.blobs.layout import Layout
from regserver.storage.catalog import copies
from regserver.storage.catalog.copies import BlobRow
from regserver.storage.sql import copying
from regserver.storage.sql.port import Reader
from regserver.storage.sql.statements import drive

BATCH = 500
Tell = Callable[[str, int, int], None]  # (what is being done, done, of so much)


class RestoreRefused(Exception):
    """What was asked for cannot be done as it was written. One line for a person."""


@dataclass(slots=True)
class Restored:
    """``damaged``: blobs that the catalog names and whose bytes are in none of the archives."""

    root: Path
    header: Header
    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    damaged: list[str] = field(default_factory=list)


def restore(files: Sequence[Path], root: Path, tell: Tell, *, allow_damaged: bool = False) -> Restored:
    """Makes ``root``, which is missing or empty, from a full backup and any that add to it, in any order.

    Raises RestoreRefused, ArchiveFailed, DatabaseFailed, OSError; then there is no root.
    """
    target = Path(os.path.realpath(root))
    _check_root(target)
    chain = _chain(files)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.restoring-{secrets.token_hex(4)}")
    staging.mkdir(mode=0o700)
    try:
        restored = _Restore(staging, chain, tell).run(target)
        _check_damage(restored.damaged, allow_damaged=allow_damaged)
        _publish(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return restored


class _Restore:
    def __init__(self, staging: Path, chain: Sequence[tuple[Path, Header]], tell: Tell) -> None:
        self._layout = Layout(staging)
        self._chain = chain
        self._tell = tell
        self._read = 0
        self._total = sum(path.stat().st_size for path, _ in chain)

    def run(self, target: Path) -> Restored:
        (newest, header), *rest = self._chain
        restored = Restored(target, header)
        for folder in (self._layout.uploads, self._layout.blobs, *map(self._layout.algorithm, Algorithm)):
            folder.mkdir(mode=0o700)
        with archives.opened(newest, self._step) as (_, entries):
            first = self._files(newest, header, entries)
            catalog = self._layout.root / CATALOG
            copying.verify(catalog)
            with copying.reading(catalog) as copy:
                restored.manifests = _verify_manifests(copy)
                self._blobs(copy, _chained(first, entries))
                for path, _ in rest:
                    with archives.opened(path, self._step) as (_, older):
                        self._blobs(copy, older)
                self._count(copy, restored)
        return restored

    def _files(self, path: Path, header: Header, entries: Iterator[Entry]) -> Entry | None:
        """Writes what is no blob; returns the first blob. Raises ArchiveFailed unless it is as the header says."""
        missing, first = dict(header.files), None
        for entry in entries:
            if entry.digest is not None:
                first = entry
                break
            made = self._layout.root / entry.name
            made.parent.mkdir(mode=0o700, exist_ok=True)
            if _write(made, entry.file, hasher := hashlib.sha256(), entry.size) is None or (
                missing.pop(entry.name, None) != hasher.hexdigest()
            ):
                raise ArchiveFailed(f"{path}: {entry.name} in this backup is damaged")
        if missing:
            raise ArchiveFailed(f"{path}: the archive is cut off: {min(missing)} is missing")
        return first

    def _blobs(self, copy: Reader, entries: Iterator[Entry]) -> None:
        """Writes the blobs that the catalog names, under its keys. One that is not what its name says is left out."""
        for entry in entries:
            row = drive(copies.blob(copy, str(entry.digest))) if entry.digest else None
            if row is None:
                continue  # a file of an older backup, or a blob that was collected before the newest
            path = self._path(row)
            if path.exists():
                continue
            path.parent.mkdir(mode=0o700, exist_ok=True)
            hasher = Digest(row.digest).algorithm.hasher()
            if _write(path, entry.file, hasher, row.size) is None or hasher.hexdigest() != Digest(row.digest).hex:
                path.unlink()

    def _count(self, copy: Reader, restored: Restored) -> None:
        after = ""
        while rows := drive(copies.blobs(copy, after, BATCH)):
            for row in rows:
                if self._path(row).exists():
                    restored.blobs, restored.bytes = restored.blobs + 1, restored.bytes + row.size
                else:
                    restored.damaged.append(row.digest)
            after = rows[-1].digest

    def _path(self, row: BlobRow) -> Path:
        return self._layout.published(row.key, Digest(row.digest))

    def _step(self, size: int) -> None:
        self._read += size
        self._tell("restoring", self._read, self._total)


def _chain(files: Sequence[Path]) -> list[tuple[Path, Header]]:
    """The newest first, the full one last; each adds to the one behind it. Raises RestoreRefused, ArchiveFailed."""
    headers: dict[str, tuple[Path, Header]] = {}
    for path in files:
        header = archives.read_header(path)
        if header.backup in headers:
            raise RestoreRefused(f"{path} and {headers[header.backup][0]} are the same backup; name it once")
        headers[header.backup] = (path, header)
    added_to = {header.since for _, header in headers.values()}
    newest = [identity for identity in headers if identity not in added_to]
    if len(newest) != 1:
        raise RestoreRefused("these backups are no chain: each but the full one must add to one other of them")
    chain = [headers.pop(newest[0])]
    while (since := chain[-1][1].since) is not None:
        if since not in headers:
            raise RestoreRefused(f"{chain[-1][0]} adds to an earlier backup, {since}; name that one too")
        chain.append(headers.pop(since))
    if headers:
        raise RestoreRefused(f"{next(iter(headers.values()))[0]} does not belong to {chain[0][0]}; leave it out")
    return chain


def _check_root(target: Path) -> None:
    if target.is_mount():
        raise RestoreRefused(f"{target} is a mount point, which cannot be put in place at once; name a folder in it")
    if target.exists() and (not target.is_dir() or next(target.iterdir(), None) is not None):
        raise RestoreRefused(f"{target} is not empty; a backup is restored into a new folder")


def _verify_manifests(copy: Reader) -> int:
    """How many there are. Raises ArchiveFailed for one whose bytes are not what its digest names."""
    count, after = 0, (0, "")
    while rows := drive(copies.manifests(copy, after, BATCH)):
        for _, text, content in rows:
            digest = Digest(text)
            if Digest.of(content, digest.algorithm) != digest:
                raise ArchiveFailed(f"the catalog in this backup is damaged: the bytes of manifest {digest} are others")
        count, after = count + len(rows), (rows[-1][0], rows[-1][1])
    return count


def _write(path: Path, source: IO[bytes], hasher: Hasher, size: int) -> int | None:
    """Writes and hashes what is to be read, durably, 0600. None if that is not ``size`` bytes. Raises ArchiveFailed."""
    left = size
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
        while chunk := source.read(CHUNK):
            made.write(chunk)
            hasher.update(chunk)
            left -= len(chunk)
        made.flush()
        os.fsync(made.fileno())
    return size if left == 0 else None


def _chained(first: Entry | None, rest: Iterator[Entry]) -> Iterator[Entry]:
    if first is not None:
        yield first
    yield from rest


def _publish(staging: Path, target: Path) -> None:
    """Names before the name of the whole: every folder, from below, then the rename. It fails unless root is empty."""
    for folder, _, _ in os.walk(staging, topdown=False):
        sync_directory(Path(folder))
    staging.rename(target)
    sync_directory(target.parent)


def _check_damage(damaged: Sequence[str], *, allow_damaged: bool) -> None:
    if damaged and not allow_damaged:
        shown = ", ".join(damaged[:3]) + (" …" if len(damaged) > 3 else "")
        raise ArchiveFailed(
            f"of the blobs that the catalog names, {len(damaged)} are in none of these archives, or damaged there: "
            f"{shown}; nothing was restored. Name every backup of the chain; --allow-damaged restores the rest"
        )
