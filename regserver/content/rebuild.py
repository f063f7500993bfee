"""A catalog from what is left where the database is lost: the blob files, and the saved copy of the manifests.

The blobs come first, each read and hashed; then registries; then the manifests through the same door as a push, which
proves every edge; an index after what it lists. What the copy names and the disk has not is left out and told.
The new catalog is made in a folder of its own and gets its name when it is whole; no blob file is touched.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from regserver.content.core import Core
from regserver.content.manifests import Manifests
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Account, Action, Caller, Kind, Target
from regserver.model.audit import Actor, AuditAction
from regserver.model.digest import Digest
from regserver.model.manifest import Manifest, parse_manifest
from regserver.model.names import RepositoryName, Tag
from regserver.model.times import now_ms
from regserver.storage import saved as files
from regserver.storage.blobs.port import StoredFile
from regserver.storage.catalog import audit, blobs, registries, repositories
from regserver.storage.catalog.registries import Status
from regserver.storage.catalog.saved import ImageRow, RegistryRow
from regserver.storage.sql.port import Transaction

CHUNK = 2**20
SUBJECT = "rebuild"

Tell = Callable[[str, int, int], None]  # (what is being done, done, of so much)
MakeRobot = Callable[[Transaction, str, str], Awaitable[object]]  # (transaction, registry id, registry name)


@dataclass(frozen=True, slots=True)
class Lost:
    """A manifest of the copy that could not be brought back, and why; ``tags`` went with it."""

    image: str
    digest: str
    tags: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class Rebuilt:
    """``damaged``: files whose bytes are not what their name says."""

    registries: int = 0
    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    tags: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Saved:
    repository_id: int
    digest: str
    media_type: str
    content: bytes


class Rebuild:
    """``core`` is of a new, migrated and empty catalog, with the blobs that are there."""

    def __init__(self, core: Core, make_robot: MakeRobot, tell: Tell) -> None:
        self._core = core
        self._manifests = Manifests(core)
        self._make_robot = make_robot
        self._tell = tell
        self._caller = Caller(Account(Kind.ADMIN, SUBJECT), SUBJECT, shared=False)
        self._images: dict[int, Target] = {}
        self._tags: dict[tuple[int, str], list[str]] = {}
        self.done = Rebuilt()

    async def run(self, copy: Path) -> Rebuilt:
        """Raises ArchiveFailed for a copy that is none or not whole, before a blob is read; OSError, DatabaseFailed."""
        known = await asyncio.to_thread(self._read_names, copy)
        await self._take_blobs()
        for registry in known:
            await self._core.db.write(partial(self._registry, registry))
            self.done.registries += 1
        waiting = [saved for saved in self._saved(copy) if not await self._admit(saved)]
        await self._admit_waiting(waiting)
        for registry in known:  # last: what was there before may be more than a quota allows today
            await self._core.db.write(partial(_set_quota, registry))
        return self.done

    def _read_names(self, copy: Path) -> list[RegistryRow]:
        """Everything of the copy but the manifests."""
        images, known = [], {}
        for word, *values in files.read(copy):
            match str(word):
                case "tag":
                    self._tags.setdefault((values[0], values[2]), []).append(values[1])
                case "image":
                    images.append(ImageRow(*values))
                case "registry":
                    known[values[0]] = RegistryRow(*values)
                case _:
                    pass
        for image in images:
            if (registry := known.get(image.registry_id)) is not None:  # else it was deleted while the copy was made
                name = RepositoryName.parse(f"{registry.name}/{image.name}")
                self._images[image.repository_id] = Target(registry.id, name, frozenset(Action))
        return list(known.values())

    def _saved(self, copy: Path) -> Iterator[_Saved]:
        for word, *values in files.read(copy):
            if word == "manifest" and values[0] in self._images:
                yield _Saved(values[0], values[1], values[2], files.decode(values[3]))

    # -- blobs

    async def _take_blobs(self) -> None:
        found = [file async for batch in self._core.blobs.scan() for file in batch if file.digest is not None]
        for place, file in enumerate(found, 1):
            await self._take_blob(file, file.digest)
            self._tell("blobs", place, len(found))

    async def _take_blob(self, file: StoredFile, digest: Digest | None) -> None:
        """The first whole file of a digest is the blob. Others have no row, and the sweep removes them."""
        opened = await self._core.blobs.open(file.key, digest) if digest else None
        if opened is None or digest is None:
            return
        try:
            actual = await asyncio.to_thread(_hash, opened.fd, digest)
        finally:
            os.close(opened.fd)
        if actual != digest.hex:
            self.done.damaged.append(str(digest))
            return
        if await self._core.db.write(lambda tx: blobs.insert(tx, digest, opened.size, file.key)):
            self.done.blobs, self.done.bytes = self.done.blobs + 1, self.done.bytes + opened.size

    # -- registries

    async def _registry(self, row: RegistryRow, tx: Transaction) -> None:
        await registries.insert(
            tx, row.id, row.name, status=Status.CREATING, public=bool(row.public), quota_bytes=None, now=now_ms()
        )
        await self._make_robot(tx, row.id, row.name)
        await registries.activate(tx, row.id)
        await audit.record(
            tx, Actor(SUBJECT), AuditAction.REGISTRY_CREATE, registry_id=row.id, detail="rebuilt from blobs"
        )

    # -- manifests

    async def _admit_waiting(self, waiting: list[_Saved]) -> None:
        """Indexes after what they list, however deep; what is left when none goes in any more is lost."""
        while waiting:
            left = [saved for saved in waiting if not await self._admit(saved)]
            if len(left) == len(waiting):
                break
            waiting = left
        for saved in waiting:
            await self._admit(saved, last=True)

    async def _admit(self, saved: _Saved, *, last: bool = False) -> bool:
        """False: something that it needs is not there yet."""
        target, digest = self._images[saved.repository_id], Digest(saved.digest)
        names = [Tag(name) for name in self._tags.get((saved.repository_id, saved.digest), [])]
        try:
            manifest = _parse(saved, digest)
            await self._core.db.write(partial(_link, target, manifest))
            await self._manifests.put(target, self._caller, digest, names, saved.content, saved.media_type)
        except RegistryError as error:
            if error.code is ErrorCode.MANIFEST_BLOB_UNKNOWN and not last:
                return False
            self.done.lost.append(Lost(str(target.name), saved.digest, tuple(map(str, names)), _reason(error)))
            return True
        self.done.manifests, self.done.tags = self.done.manifests + 1, self.done.tags + len(names)
        self._tell("manifests", self.done.manifests, 0)
        return True


async def _link(target: Target, manifest: Manifest, tx: Transaction) -> None:
    """The links that the manifest relied on: the copy says that it was stored here, which had proven the right (I4)."""
    repository_id = await repositories.ensure(tx, target)
    for descriptor in dict.fromkeys((*manifest.blobs, *manifest.entries)):
        size = await blobs.size(tx, str(descriptor.digest))
        if size is not None:
            await blobs.link(tx, repository_id, target.registry_id, str(descriptor.digest), size)


async def _set_quota(row: RegistryRow, tx: Transaction) -> None:
    if row.quota_bytes is not None:
        await registries.update(tx, row.id, public=bool(row.public), quota_bytes=row.quota_bytes, now=now_ms())


def _parse(saved: _Saved, digest: Digest) -> Manifest:
    """Raises RegistryError."""
    if Digest.of(saved.content, digest.algorithm) != digest:
        raise RegistryError(ErrorCode.DIGEST_INVALID, message="its bytes in the copy are damaged")
    return parse_manifest(saved.content, saved.media_type)


def _reason(error: RegistryError) -> str:
    missing = error.detail.get("missing") if isinstance(error.detail, dict) else None
    return f"missing: {', '.join(missing)}" if missing else error.message


def _hash(fd: int, digest: Digest) -> str:
    hasher = digest.algorithm.hasher()
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()
