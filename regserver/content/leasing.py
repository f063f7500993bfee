"""Promises: what a client was told exists stays until its manifest arrives, or the lease runs out (I3)."""

from __future__ import annotations

from regserver.content.core import Core
from regserver.model.access import Caller, Target
from regserver.model.digest import Digest
from regserver.storage.catalog import blobs, clock, leases, manifests
from regserver.storage.sql.port import Transaction


async def hold_blob(core: Core, tx: Transaction, repository_id: int, caller: Caller, digest: Digest) -> None:
    """Takes the caller's lease, inside the transaction that makes the promise true."""
    epoch = await clock.epoch(tx)
    floor = core.lease_floor(epoch)
    await leases.take_blob(
        tx, repository_id, caller.session, str(digest), shared=caller.shared, epoch=epoch, floor=floor
    )


async def hold_manifest(core: Core, tx: Transaction, repository_id: int, caller: Caller, digest: str) -> None:
    epoch = await clock.epoch(tx)
    floor = core.lease_floor(epoch)
    await leases.take_manifest(
        tx, repository_id, caller.session, digest, shared=caller.shared, epoch=epoch, floor=floor
    )


async def promise_blob(core: Core, target: Target, caller: Caller, digest: Digest) -> bool:
    """Before "it exists" is answered: False if the blob went away meanwhile, and nothing was promised."""
    found = await blobs.linked(core.db, target, digest)
    if found is None:
        return False
    taken = await leases.blob_epoch(core.db, found.repository_id, caller.session, str(digest))
    if await _still_good(core, caller, taken):
        return True

    async def body(tx: Transaction) -> bool:
        again = await blobs.linked(tx, target, digest)
        if again is not None:
            await hold_blob(core, tx, again.repository_id, caller, digest)
        return again is not None

    return await core.db.write(body)


async def promise_manifest(core: Core, target: Target, caller: Caller, digest: str) -> bool:
    found = await manifests.by_digest(core.db, target, digest)
    if found is None or not found.sound:
        return False
    taken = await leases.manifest_epoch(core.db, found.repository_id, caller.session, digest)
    if await _still_good(core, caller, taken):
        return True

    async def body(tx: Transaction) -> bool:
        again = await manifests.by_digest(tx, target, digest)
        if again is None or not again.sound:
            return False
        await hold_manifest(core, tx, again.repository_id, caller, digest)
        return True

    return await core.db.write(body)


async def _still_good(core: Core, caller: Caller, taken: int | None) -> bool:
    """A session of its own need not write a lease again that has half of its life before it; shared ones count."""
    if taken is None or caller.shared:
        return False
    epoch = await clock.epoch(core.db)
    return taken >= epoch - core.epochs(core.settings.lease_seconds) // 2
