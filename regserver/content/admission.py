"""Admission of a manifest: every edge is proven inside the transaction that inserts it.

Each reference must be linked in this repository with the size that the manifest claims, or be held by a lease of the
pushing session; then it is linked again. What may be absent is written down and met later (architecture: the steps).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from regserver.content import quarantine
from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Caller, Target
from regserver.model.digest import Digest
from regserver.model.manifest import Descriptor, Manifest
from regserver.model.times import now_ms
from regserver.storage.catalog import blobs, clock, leases, manifests
from regserver.storage.sql.port import Transaction


class Edge(Enum):
    BLOB = "blob"
    CHILD = "child"
    ABSENT_BLOB = "absent blob"
    ABSENT_ENTRY = "absent entry"


@dataclass(slots=True)
class _Plan:
    edges: list[tuple[Edge, Descriptor]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


async def admit(
    core: Core, tx: Transaction, target: Target, repository_id: int, caller: Caller, digest: Digest, manifest: Manifest
) -> None:
    """Inserts the manifest with its edges and spends this session's own leases on what it names (L4).

    A manifest already there is left as it is, or healed where it was rotten. Behind a shared session it then spends
    nothing: a PUT that is only repeated must not use up what another pusher was promised.
    Raises RegistryError MANIFEST_BLOB_UNKNOWN with every missing digest, MANIFEST_INVALID where a size differs.
    """
    if await manifests.size_here(tx, repository_id, str(digest)) is not None:
        await quarantine.heal_manifest(tx, caller, repository_id, digest, manifest.content)
        if not caller.shared:
            await _spend(tx, repository_id, caller, digest, manifest)
        return
    plan = await _prove(core, tx, target, repository_id, caller, manifest)
    if plan.missing:
        named = dict.fromkeys(str(to.digest) for to in (*manifest.blobs, *manifest.entries))
        missing = [digest for digest in named if digest in plan.missing]
        raise RegistryError(ErrorCode.MANIFEST_BLOB_UNKNOWN, {"missing": missing[:100]})
    epoch = await clock.epoch(tx)
    await manifests.insert(tx, target, repository_id, digest, manifest, now=now_ms(), epoch=epoch)
    await _connect(tx, repository_id, str(digest), plan)
    await manifests.adopt(tx, repository_id, str(digest), len(manifest.content))
    await _hold_referrers(tx, repository_id, str(digest))
    await _spend(tx, repository_id, caller, digest, manifest)
    if manifest.subject and await manifests.size_here(tx, repository_id, str(manifest.subject)) is not None:
        await manifests.mark_held(tx, repository_id, str(digest))


async def _prove(
    core: Core, tx: Transaction, target: Target, repository_id: int, caller: Caller, manifest: Manifest
) -> _Plan:
    """In the order of digests, so that two who link the same blobs wait for each other and never both ways round."""
    plan, sparse = _Plan(), core.settings.allow_sparse
    floor = core.lease_floor(await clock.epoch(tx))
    for blob in _sorted(manifest.blobs):
        if await _blob_here(tx, target, repository_id, caller, blob, floor):
            plan.edges.append((Edge.BLOB, blob))
        elif sparse or not blob.distributable:
            plan.edges.append((await _absent(tx, repository_id, blob, Edge.ABSENT_BLOB), blob))
        else:
            plan.missing.add(str(blob.digest))
    for entry in _sorted(manifest.entries):
        size = await manifests.size_here(tx, repository_id, str(entry.digest))
        if size is not None and (sparse or await manifests.is_sound(tx, repository_id, str(entry.digest))):
            _same_size(entry, size)
            plan.edges.append((Edge.CHILD, entry))
        elif await _blob_here(tx, target, repository_id, caller, entry, floor):
            plan.edges.append((Edge.BLOB, entry))
        elif sparse:
            plan.edges.append((await _absent(tx, repository_id, entry, Edge.ABSENT_ENTRY), entry))
        else:
            plan.missing.add(str(entry.digest))
    return plan


def _sorted(descriptors: Iterable[Descriptor]) -> list[Descriptor]:
    """Each once, by its digest."""
    return sorted(dict.fromkeys(descriptors), key=lambda descriptor: str(descriptor.digest))


async def _blob_here(
    tx: Transaction, target: Target, repository_id: int, caller: Caller, blob: Descriptor, lease_floor: int
) -> bool:
    """Linked here, or linked again on the strength of an own living lease (I4)."""
    digest = str(blob.digest)
    size = await blobs.size_here(tx, repository_id, digest)
    if size is None:
        taken = await leases.blob_epoch(tx, repository_id, caller.session, digest)
        size = await blobs.sound_size(tx, digest) if taken is not None and taken >= lease_floor else None
        if size is not None:
            await blobs.link(tx, repository_id, target.registry_id, digest, size)
    if size is None:
        return False
    _same_size(blob, size)
    return True


async def _absent(tx: Transaction, repository_id: int, to: Descriptor, absent: Edge) -> Edge:
    """A rotten blob is linked all the same: what heals it makes no link that a waiting reference would hear of."""
    size = await blobs.size_here(tx, repository_id, str(to.digest), rotten=True)
    return Edge.BLOB if size == to.size else absent


def _same_size(descriptor: Descriptor, size: int) -> None:
    if descriptor.size != size:
        detail = {"digest": str(descriptor.digest), "claimed": descriptor.size, "actual": size}
        raise RegistryError(ErrorCode.MANIFEST_INVALID, detail, message="manifest invalid: a size is wrong")


async def _connect(tx: Transaction, repository_id: int, digest: str, plan: _Plan) -> None:
    used = [str(to.digest) for edge, to in plan.edges if edge is Edge.BLOB]
    await manifests.add_blobs(tx, repository_id, digest, sorted(used))
    for edge, to in plan.edges:
        if edge is Edge.CHILD:
            await manifests.add_child(tx, repository_id, digest, str(to.digest))
        elif edge is not Edge.BLOB:
            entry = edge is Edge.ABSENT_ENTRY
            await manifests.add_missing(tx, repository_id, digest, to, entry=entry)


async def _hold_referrers(tx: Transaction, repository_id: int, subject: str) -> None:
    for referrer in await manifests.referrers_of(tx, repository_id, subject):
        await manifests.mark_held(tx, repository_id, referrer)


async def _spend(tx: Transaction, repository_id: int, caller: Caller, digest: Digest, manifest: Manifest) -> None:
    """This session's own promises on what the manifest now keeps: its blobs, its children, its waiting referrers."""
    named = {str(to.digest) for to in manifest.entries}
    for blob in sorted({str(to.digest) for to in manifest.blobs} | named):
        await leases.spend_blob(tx, repository_id, caller.session, blob)
    for child in sorted(named | set(await manifests.referrers_of(tx, repository_id, str(digest)))):
        await leases.spend_manifest(tx, repository_id, caller.session, child)
