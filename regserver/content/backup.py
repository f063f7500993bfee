"""A backup while the registry serves: one committed state of the catalog, and every file that it names.

The order of effects: hold the trash → read the keys → copy the catalog → read the keys again → read the blobs that the
copy names → fsync, name → release. A blob that the copy names stays, since the hold was there before the copy (L16). A
key that the copy names existed when it was made: it was there at the first reading, or is there at the second.
Whatever is wrong with that is found, not believed: each blob is hashed as it goes by, and a missing file is reported.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from regserver import __version__
from regserver.content.core import Core
from regserver.content.holding import held_trash
from regserver.model.digest import Digest
from regserver.model.ids import new_id
from regserver.model.times import now_ms, rfc3339
from regserver.storage import archives
from regserver.storage.archives import ADMIN_TOKEN, CATALOG, KEYS, ArchiveFailed, Header, Writer
from regserver.storage.catalog import accounts, copies
from regserver.storage.catalog.copies import BlobRow
from regserver.storage.sql import copying
from regserver.storage.sql.port import Reader

BATCH = 500
DAMAGED = "damaged-"  # begins the name of an archive that does not hold all that it names
Tell = Callable[[str, int, int], None]  # (what is being done, done, of so much); called from other threads


class BackupRefused(Exception):
    """What was asked for cannot be done as it was written. One line for a person."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """``file`` is not the one that was asked for where ``damaged`` names blobs: then that one does not exist."""

    file: Path
    header: Header
    damaged: tuple[str, ...]


class _Ended(Exception):
    """Nobody waits for the result of this thread any more."""


class Backup:
    """``catalog`` is the file of the database that ``core`` has open."""

    def __init__(self, core: Core, catalog: Path, tell: Tell) -> None:
        self._core = core
        self._catalog = catalog
        self._tell = tell
        self._ended = threading.Event()
        self._bytes = 0

    async def write(self, file: Path, since: Path | None = None) -> BackedUp:
        """Backs up into ``file``, which does not exist yet; without the blobs that ``since`` or its own past hold.

        Raises BackupRefused, ArchiveFailed, DatabaseFailed, OSError; nothing is left of what was begun.
        """
        _check_names(file, since)
        writer = Writer(file)
        try:
            with _workspace(file) as folder:
                earlier = await asyncio.to_thread(_earlier, since, folder) if since else None
                async with held_trash(self._core.db):
                    return await self._write(writer, file, folder / CATALOG, earlier)
        except BaseException:
            writer.discard()
            raise
        finally:
            self._ended.set()

    async def _write(self, writer: Writer, file: Path, copied: Path, earlier: _Earlier | None) -> BackedUp:
        secrets = _secrets(self._core.settings.root)
        await asyncio.to_thread(copying.copy, self._catalog, copied, self._copying)
        with copying.changing(copied) as copy:
            await copies.forget_files(copy)
        await asyncio.to_thread(copying.verify, copied)
        secrets = _secrets(self._core.settings.root) | secrets
        with copying.reading(copied) as copy:
            await _check_keys(copy, secrets)
            header = await self._header(copy, earlier, copied, secrets)
            await asyncio.to_thread(_write_first, writer, header, copied, secrets)
            damaged = await self._blobs(writer, copy, earlier, header.bytes)
        final = file.with_name(DAMAGED + file.name) if damaged else file
        await asyncio.to_thread(writer.finish, final)
        return BackedUp(final, header, tuple(damaged))

    async def _header(self, copy: Reader, earlier: _Earlier | None, copied: Path, secrets: dict[str, bytes]) -> Header:
        header = Header(
            backup=new_id("bak"),
            since=earlier.header.backup if earlier else None,
            made_at=rfc3339(now_ms()),
            version=__version__,
            blobs=0,
            bytes=0,
            files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(secrets.items())}
            | {CATALOG: await asyncio.to_thread(_sha256, copied)},
        )
        count = size = 0
        async for row in _wanted(copy, earlier):
            count, size = count + 1, size + row.size
        return replace(header, blobs=count, bytes=size)

    async def _blobs(self, writer: Writer, copy: Reader, earlier: _Earlier | None, total: int) -> list[str]:
        """Returns the digests of those whose bytes are missing or others. Their places hold no good bytes."""
        damaged = []

        def step(size: int) -> None:
            self._bytes += size
            self._report("blobs", self._bytes, total)

        async for row in _wanted(copy, earlier):
            digest = Digest(row.digest)
            found = await self._core.blobs.open(row.key, digest)
            if found is None:
                damaged.append(row.digest)
                continue
            try:
                matches = await asyncio.to_thread(writer.blob, digest, row.size, found.fd, step)
            finally:
                os.close(found.fd)
            if not matches:
                damaged.append(row.digest)
        return damaged

    def _copying(self, done: int, total: int) -> None:
        self._report("catalog", done, total)

    def _report(self, phase: str, done: int, total: int) -> None:
        if self._ended.is_set():
            raise _Ended
        self._tell(phase, done, total)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The backup that a new one adds to. Each blob of its catalog is in it, or in the ones that it adds to itself."""

    header: Header
    catalog: Path


def _check_names(file: Path, since: Path | None) -> None:
    if since is not None and since.name.startswith(DAMAGED):
        raise BackupRefused(f"{since} lacks blobs that its catalog names; name a whole one, or back up without --since")
    if not archives.is_archive_name(file):
        raise BackupRefused(f"{file}: a backup's name ends in {' or '.join(archives.SUFFIXES)}")
    if file.exists():
        raise BackupRefused(f"{file} exists; choose another name, or delete it first")
    if not file.parent.is_dir():
        raise BackupRefused(f"{file.parent}: there is no such folder")


@contextmanager
def _workspace(file: Path) -> Iterator[Path]:
    """A private folder beside the archive, for the copy of the catalog. What a killed backup has left goes first."""
    folder = file.with_name(f".{file.name}.work")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _earlier(since: Path, folder: Path) -> _Earlier:
    """Its header and its catalog, which stand at its beginning: no blob is read. Raises ArchiveFailed."""
    target = folder / f"since-{CATALOG}"
    with archives.opened(since, lambda _: None) as (header, entries):
        for entry in entries:
            if entry.name == CATALOG:
                with target.open("xb") as made:
                    shutil.copyfileobj(entry.file, made, archives.CHUNK)
                break
            if entry.digest is not None:
                break
    if not target.exists() or _sha256(target) != header.files.get(CATALOG):
        raise ArchiveFailed(f"{since}: the catalog in this backup is missing or damaged; back up without --since")
    return _Earlier(header, target)


async def _wanted(copy: Reader, earlier: _Earlier | None) -> AsyncIterator[BlobRow]:
    """The blobs of the copy in the order of their digests, without those that the earlier backup has."""
    if earlier is None:
        async for row in all_blobs(copy):
            yield row
        return
    with copying.reading(earlier.catalog) as known:
        async for row in all_blobs(copy):
            if await copies.blob(known, row.digest) is None:
                yield row


async def all_blobs(reader: Reader) -> AsyncIterator[BlobRow]:
    after = ""
    while rows := await copies.blobs(reader, after, BATCH):
        for row in rows:
            yield row
        after = rows[-1].digest


def _secrets(root: Path) -> dict[str, bytes]:
    """The signing keys, and the administrator's token where the root holds it, by their names in an archive."""
    found = {}
    for path in (root / ADMIN_TOKEN, *sorted((root / KEYS).glob("*.pem"))):
        name = path.relative_to(root).as_posix()
        if archives.is_known(name):
            with suppress(FileNotFoundError):  # a rotation has just removed it: the copy does not name it, or we stop
                found[name] = path.read_bytes()
    return found


async def _check_keys(copy: Reader, secrets: dict[str, bytes]) -> None:
    """Every key that the copied catalog signs with is there. Raises ArchiveFailed."""
    active = await accounts.active_key(copy)
    retired = [key for key, _ in await accounts.retired_keys(copy) if await accounts.usernames_of_key(copy, key)]
    needed = {*retired, *([active] if active else [])}
    if missing := sorted(key for key in needed if f"{KEYS}{key}.pem" not in secrets):
        raise ArchiveFailed(
            f"{KEYS}{missing[0]}.pem: this signing key is missing; if keys were rotated just now, run it again"
        )


def _write_first(writer: Writer, header: Header, copied: Path, secrets: dict[str, bytes]) -> None:
    """What stands before the blobs, so that a reader of an archive knows from its beginning what is to come."""
    writer.header(header)
    with copied.open("rb") as file:
        writer.file(CATALOG, copied.stat().st_size, file)
    for name, content in sorted(secrets.items()):
        writer.content(name, content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
