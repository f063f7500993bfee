"""Content that rotted: out of everybody's sight in one transaction, back in sight by a push of the same bytes.

The state is a mark on the row; key, links, edges and counters stay. So a marked blob is collected like any other, and
what heals it heals it for every registry that has it. The order of effects:

    read twice, off the database -> one transaction: still that key? mark, audit, COMMIT -> move the file away

Whoever read a file may have read what was collected or healed meanwhile: then the key is not the blob's any more, and
nothing is marked. The move comes last and may be missing: from the COMMIT on nobody opens that key.
"""

from __future__ import annotations

import logging

from regserver.content.core import Core
from regserver.model.access import Caller
from regserver.model.audit import SERVER, AuditAction
from regserver.model.digest import Digest
from regserver.model.times import now_ms
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import audit, scrub
from regserver.storage.catalog.scrub import ManifestKey, Rot
from regserver.storage.sql.port import Transaction

log = logging.getLogger("regserver.scrub")


async def mark(core: Core, digest: Digest, key: str, rot: Rot) -> bool:
    """Withdraws the blob if the key is still its own and sound; returns whether it did."""

    async def body(tx: Transaction) -> bool:
        if not await scrub.mark_rotten(tx, str(digest), key, rot, now_ms()):
            return False
        await _note(tx, AuditAction.BLOB_QUARANTINE, digest, str(rot))
        return True

    return await core.db.write(body)


async def move(core: Core, digest: Digest, key: str, rot: Rot) -> None:
    """Takes a marked blob's file out of the way, to be looked at. What cannot be read is left where it is."""
    if rot not in (Rot.DIGEST, Rot.SIZE):
        return
    try:
        await core.blobs.quarantine(key, digest)
    except StoreFailed as failed:
        core.report(failed)
        log.warning("the file of %s stays where it was: %s", digest, failed)


async def release(core: Core, digest: Digest, key: str) -> bool:
    """Lifts the mark from a blob whose file was found sound: it was put back, or its disk was."""

    async def body(tx: Transaction) -> bool:
        if not await scrub.mark_sound(tx, str(digest), key):
            return False
        await _note(tx, AuditAction.BLOB_RELEASE, digest, None)
        return True

    return await core.db.write(body)


async def heal(tx: Transaction, caller: Caller, repository_id: int, digest: Digest, key: str) -> str | None:
    """In the transaction that finishes an upload: its verified file becomes the blob in place of a rotten one.

    Returns the key that is to go into the trash; None where the blob is not rotten, and the upload a duplicate.
    """
    earlier = await scrub.heal(tx, str(digest), key)
    if earlier is not None:
        await audit.record_image(tx, caller.actor, AuditAction.BLOB_HEAL, repository_id, digest=str(digest))
    return earlier


async def heal_manifest(tx: Transaction, caller: Caller, repository_id: int, digest: Digest, content: bytes) -> None:
    """In the transaction that takes a manifest, whose bytes were verified: they replace rotten ones."""
    if await scrub.heal_manifest(tx, repository_id, str(digest), content):
        await audit.record_image(tx, caller.actor, AuditAction.MANIFEST_HEAL, repository_id, digest=str(digest))


async def mark_manifest(core: Core, key: ManifestKey) -> bool:
    """Withdraws a manifest whose bytes are not those of its digest, as this very transaction reads them."""

    async def body(tx: Transaction) -> bool:
        facts = await scrub.manifest(tx, key)
        if facts is None or is_whole(key.digest, facts) or not await scrub.mark_manifest(tx, key, now_ms()):
            return False
        action = AuditAction.MANIFEST_QUARANTINE
        await audit.record_image(tx, SERVER, action, key.repository_id, digest=key.digest)
        return True

    return await core.db.write(body)


async def release_manifest(core: Core, key: ManifestKey) -> bool:
    """Lifts the mark from a manifest whose bytes are those of its digest, as this very transaction reads them."""

    async def body(tx: Transaction) -> bool:
        facts = await scrub.manifest(tx, key)
        if facts is None or not is_whole(key.digest, facts):
            return False
        return await scrub.heal_manifest(tx, key.repository_id, key.digest, facts.content)

    return await core.db.write(body)


def is_whole(digest: str, facts: scrub.ManifestFacts) -> bool:
    named = Digest(digest)
    return len(facts.content) == facts.size and Digest.of(facts.content, named.algorithm) == named


async def _note(tx: Transaction, action: AuditAction, digest: Digest, detail: str | None) -> None:
    """A line for each registry that has the blob, so that its owner finds it; one without where none has."""
    holders = await scrub.holders(tx, str(digest))
    for repository_id, _ in holders:
        await audit.record_image(tx, SERVER, action, repository_id, digest=str(digest), detail=detail)
    if not holders:
        await audit.record(tx, SERVER, action, reference=str(digest), detail=detail)
