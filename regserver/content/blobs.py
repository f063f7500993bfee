"""Blobs: what is linked here may be read, mounted, promised; a link goes only when nothing here needs it."""

from __future__ import annotations

import os

from regserver.content import leasing
from regserver.content.core import Core, Usage
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action, Caller, Target
from regserver.model.audit import AuditAction
from regserver.model.digest import Digest
from regserver.model.globs import Globs
from regserver.storage.blobs.port import LocalFile, StoreFailed
from regserver.storage.catalog import audit, blobs, leases, repositories
from regserver.storage.sql.port import Transaction

IMAGES_AT_ONCE = 500


def _unknown(digest: Digest) -> RegistryError:
    return RegistryError(ErrorCode.BLOB_UNKNOWN, {"digest": str(digest)})


class Blobs:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def stat(self, target: Target, caller: Caller, digest: Digest) -> int:
        """The blob's size in bytes (end-2, HEAD). To who may push here this is a promise: a lease is committed first.

        Raises RegistryError BLOB_UNKNOWN.
        """
        found = await blobs.linked(self._core.db, target, digest)
        if found is None:
            raise _unknown(digest)
        if Action.PUSH in target.rights and not await leasing.promise_blob(self._core, target, caller, digest):
            raise _unknown(digest)
        return found.size

    async def open(self, target: Target, digest: Digest) -> LocalFile:
        """The blob, open: it can be read to its end even if it is collected meanwhile. The receiver closes ``fd``.

        Raises RegistryError BLOB_UNKNOWN; StoreFailed where the file is not as long as it was when it was verified.
        """
        found = await blobs.linked(self._core.db, target, digest)
        file = await self._core.blobs.open(found.key, digest) if found else None
        if found is None or file is None:
            raise _unknown(digest)
        if file.size != found.size:
            os.close(file.fd)
            raise StoreFailed(f"the file of {digest} has {file.size} bytes instead of {found.size}")
        return file

    async def mount(
        self, target: Target, caller: Caller, digest: Digest, source: Target | None, images: Globs | None = None
    ) -> Usage | None:
        """Links a blob of a readable repository here without its bytes (end-11); None if there is none to link.

        ``source`` has passed the account's live grants. Without one, any repository of the same registry serves that
        the account may pull: those of ``images``, None is all.
        Raises RegistryError DENIED when the quota cannot take it, NAME_UNKNOWN when the registry has gone.
        """

        async def body(tx: Transaction) -> Usage | None:
            if source is not None:
                there = await blobs.linked(tx, source, digest)
                size = there.size if there else None
            else:
                size = await _size_in_images(tx, target.registry_id, digest, images)
            if size is None:
                return None
            before = await self._core.hold_usage(tx, target.registry_id)
            repository_id = await repositories.ensure(tx, target)
            await blobs.link(tx, repository_id, target.registry_id, str(digest), size)
            await leasing.hold_blob(self._core, tx, repository_id, caller, digest)
            return await self._core.settle(tx, target.registry_id, before)

        return await self._core.db.write(body)

    async def delete(self, target: Target, caller: Caller, digest: Digest) -> None:
        """Ends the link and the caller's own lease (end-10); other sessions' leases keep the blob for their holders.

        Raises RegistryError BLOB_UNKNOWN without a link, REFERENCED, naming the manifest, while one here uses it.
        """

        async def body(tx: Transaction) -> None:
            found = await blobs.linked(tx, target, digest)
            if found is None:
                raise _unknown(digest)
            user = await blobs.user(tx, found.repository_id, str(digest))
            if user is not None:
                raise RegistryError(ErrorCode.REFERENCED, {"digest": str(digest), "referenced_by": user})
            await self._core.hold_usage(tx, target.registry_id)
            await blobs.unlink(tx, found.repository_id, target.registry_id, str(digest))
            await leases.spend_blob(tx, found.repository_id, caller.session, str(digest))
            action, repository_id = AuditAction.BLOB_DELETE, found.repository_id
            await audit.record_image(tx, caller.actor, action, repository_id, digest=str(digest))

        await self._core.db.write(body)


async def _size_in_images(tx: Transaction, registry_id: str, digest: Digest, images: Globs | None) -> int | None:
    """The size of a sound blob that one of these images of the registry links, else None (I4)."""
    if images is None:
        here = await blobs.size_in_registry(tx, registry_id, str(digest))
        return None if here is None else await blobs.sound_size(tx, str(digest))
    after = 0
    while rows := await blobs.images_with(tx, registry_id, str(digest), after, IMAGES_AT_ONCE):
        if any(images.reach(image) for _, image in rows):
            return await blobs.sound_size(tx, str(digest))
        after = rows[-1][0]
    return None
