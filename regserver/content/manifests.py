"""Manifests: stored only when everything they name is here, in one transaction that looks for itself (L4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from regserver.content import leasing
from regserver.content.admission import admit
from regserver.content.core import Core, Usage
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action, Caller, Target
from regserver.model.audit import AuditAction
from regserver.model.digest import Digest
from regserver.model.manifest import Manifest, parse_manifest
from regserver.model.names import Reference, Tag
from regserver.model.times import now_ms
from regserver.storage import evidence
from regserver.storage.catalog import audit, clock, manifests, repositories, scrub, tags
from regserver.storage.sql.port import Reader, Transaction

LARGE = 64 * 2**10  # bytes; larger ones are parsed and read off the event loop


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class PutManifest:
    digest: Digest
    subject: Digest | None
    tags: tuple[Tag, ...]
    usage: Usage


def _unknown(reference: Reference) -> RegistryError:
    return RegistryError(ErrorCode.MANIFEST_UNKNOWN, {"reference": str(reference)})


async def _note(tx: Transaction, caller: Caller, action: AuditAction, repository_id: int, digest: Digest) -> None:
    await audit.record_image(tx, caller.actor, action, repository_id, digest=str(digest))


class Manifests:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._parsing = asyncio.Semaphore(1)  # bounds memory only: a parsed manifest is many times its bytes

    async def stat(self, target: Target, caller: Caller, reference: Reference) -> ManifestInfo:
        """What a reference names (end-3, HEAD); by digest, to who may push here, a promise.

        Who may push is told that it is not there while something that it needs has rotted: clients that ask first would
        push nothing at all. Raises RegistryError MANIFEST_UNKNOWN.
        """
        row = await self._find(target, reference)
        if Action.PUSH in target.rights and await scrub.is_hollow(self._core.db, row.repository_id, row.digest):
            raise _unknown(reference)
        if isinstance(reference, Digest) and Action.PUSH in target.rights:
            await self._promise(target, caller, reference)
        return ManifestInfo(Digest(row.digest), row.media_type, row.size)

    async def get(self, target: Target, caller: Caller, reference: Reference) -> tuple[ManifestInfo, bytes]:
        """The manifest, byte for byte as it was pushed (end-3). A bearer token's GET by digest promises like HEAD.

        Raises RegistryError MANIFEST_UNKNOWN.
        """
        row = await self._find(target, reference)
        content = await self._content(row)
        if content is None:
            raise _unknown(reference)
        if isinstance(reference, Digest) and Action.PUSH in target.rights and not caller.shared:
            await self._promise(target, caller, reference)
        tag = None if isinstance(reference, Digest) else str(reference)
        evidence.note(partial(self._core.pulls.note, row.repository_id, row.digest, tag=tag, by=caller.actor))
        return ManifestInfo(Digest(row.digest), row.media_type, row.size), content

    async def put(
        self,
        target: Target,
        caller: Caller,
        digest: Digest | None,
        names: Sequence[Tag],
        content: bytes,
        content_type: str | None,
        expected: str | None = None,
    ) -> PutManifest:
        """Stores a manifest and points tags at it, all or nothing (end-7, end-7b).

        ``digest`` is given where it was pushed by digest; ``expected`` is If-Match's digest, or ``*``, for the tags.
        Raises RegistryError MANIFEST_INVALID, DIGEST_INVALID, MANIFEST_BLOB_UNKNOWN naming what is missing,
        MANIFEST_TOO_LARGE, PRECONDITION_FAILED, DENIED.
        """
        limit = self._core.settings.max_manifest_bytes
        if len(content) > limit:
            raise RegistryError(ErrorCode.MANIFEST_TOO_LARGE, {"limit": limit, "size": len(content)})
        manifest, actual = await self._read(content, content_type, digest)
        if digest is not None and actual != digest:
            raise RegistryError(ErrorCode.DIGEST_INVALID, {"digest": str(digest), "actual": str(actual)})

        async def body(tx: Transaction) -> Usage:
            before = await self._core.hold_usage(tx, target.registry_id)
            repository_id = await repositories.ensure(tx, target)
            for tag in names:
                await self._require(tx, repository_id, tag, expected)
            await admit(self._core, tx, target, repository_id, caller, actual, manifest)
            await self._point(tx, repository_id, caller, names, actual)
            if not names:
                await _note(tx, caller, AuditAction.MANIFEST_PUSH, repository_id, actual)
            if not names and not await self._has_subject(tx, repository_id, manifest):
                await leasing.hold_manifest(self._core, tx, repository_id, caller, str(actual))
            return await self._core.settle(tx, target.registry_id, before)

        usage = await self._core.db.write(body)
        return PutManifest(actual, manifest.subject, tuple(names), usage)

    async def untag(self, target: Target, caller: Caller, tag: Tag, expected: str | None = None) -> None:
        """Deletes that tag and nothing else (end-9 by tag). Raises MANIFEST_UNKNOWN, PRECONDITION_FAILED."""

        async def body(tx: Transaction) -> None:
            repository_id = await repositories.find(tx, target)
            if repository_id is None:
                raise _unknown(tag)
            await self._require(tx, repository_id, tag, expected)
            epoch = await clock.epoch(tx)
            if await tags.remove(tx, repository_id, str(tag), caller.actor, now=now_ms(), epoch=epoch) is None:
                raise _unknown(tag)

        await self._core.db.write(body)

    async def delete(self, target: Target, caller: Caller, digest: Digest) -> None:
        """Deletes a manifest, its tags and every lease on it, at once (end-9 by digest).

        Raises RegistryError MANIFEST_UNKNOWN, REFERENCED naming the index while one here lists it.
        """

        async def body(tx: Transaction) -> None:
            row = await manifests.by_digest(tx, target, str(digest))
            if row is None:
                raise _unknown(digest)
            parent = await manifests.parent(tx, row.repository_id, str(digest))
            if parent is not None:
                raise RegistryError(ErrorCode.REFERENCED, {"digest": str(digest), "referenced_by": parent})
            await self._core.hold_usage(tx, target.registry_id)
            epoch = await clock.epoch(tx)
            for name in await tags.of_manifest(tx, row.repository_id, str(digest)):
                await tags.remove(tx, row.repository_id, name, caller.actor, now=now_ms(), epoch=epoch)
            await manifests.delete(tx, target.registry_id, row.repository_id, [str(digest)])
            await _note(tx, caller, AuditAction.MANIFEST_DELETE, row.repository_id, digest)

        await self._core.db.write(body)

    # -- steps

    async def _find(self, target: Target, reference: Reference) -> manifests.ManifestRow:
        find = manifests.by_digest if isinstance(reference, Digest) else manifests.by_tag
        row = await find(self._core.db, target, str(reference))
        if row is None or not row.sound:
            raise _unknown(reference)
        return row

    async def _promise(self, target: Target, caller: Caller, digest: Digest) -> None:
        if not await leasing.promise_manifest(self._core, target, caller, str(digest)):
            raise _unknown(digest)

    async def _content(self, row: manifests.ManifestRow) -> bytes | None:
        if row.size <= LARGE:
            return await manifests.content(self._core.db, row.repository_id, row.digest)

        async def body(reader: Reader) -> bytes | None:
            return await manifests.content(reader, row.repository_id, row.digest)

        return await self._core.db.read(body)

    async def _read(self, content: bytes, content_type: str | None, digest: Digest | None) -> tuple[Manifest, Digest]:
        def work() -> tuple[Manifest, Digest]:
            manifest = parse_manifest(content, content_type)
            return manifest, Digest.of(content, digest.algorithm) if digest else Digest.of(content)

        def outcome() -> tuple[Manifest, Digest] | RegistryError:
            try:
                return work()
            except RegistryError as refused:  # without the frames it passed, and what was parsed in them
                return refused.with_traceback(None)

        if len(content) <= LARGE:
            return work()
        async with self._parsing:
            found = await asyncio.to_thread(outcome)
        if isinstance(found, RegistryError):
            raise found
        return found

    async def _require(self, tx: Transaction, repository_id: int, tag: Tag, expected: str | None) -> None:
        if expected is None:
            return
        current = await tags.find(tx, repository_id, str(tag))
        if current is None or expected not in ("*", current):
            raise RegistryError(ErrorCode.PRECONDITION_FAILED, {"tag": str(tag), "digest": current})

    async def _point(
        self, tx: Transaction, repository_id: int, caller: Caller, names: Sequence[Tag], digest: Digest
    ) -> None:
        epoch, now = await clock.epoch(tx), now_ms()
        for tag in names:
            await tags.put(tx, repository_id, str(tag), str(digest), caller.actor, now=now, epoch=epoch)

    async def _has_subject(self, tx: Transaction, repository_id: int, manifest: Manifest) -> bool:
        """Does a present subject keep it? Another's tag would not do: it may be deleted before the index comes."""
        subject = manifest.subject
        return subject is not None and await manifests.size_here(tx, repository_id, str(subject)) is not None
