"""Tags and their history. Every change of a tag goes through ``put`` or ``remove``: they hold what is immutable, write
the event, and a line of the audit log. All tags of an image at once go through ``images.untag_all``."""

from __future__ import annotations

from regserver.model.audit import Actor, AuditAction
from regserver.storage.catalog import audit, manifests, policies
from regserver.storage.sql.port import Reader, Transaction

FIND = "SELECT digest FROM tags WHERE repository_id = $1 AND name = $2"


async def find(reader: Reader, repository_id: int, tag: str) -> str | None:
    """The digest that the tag names, else None."""
    rows = await reader.fetch(FIND, repository_id, tag)
    return rows[0][0] if rows else None


EVENT = """
INSERT INTO tag_events (repository_id, name, digest, subject, at, epoch) VALUES ($1, $2, $3, $4, $5, $6)
"""
PUT = """
INSERT INTO tags (repository_id, name, digest, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (repository_id, name) DO UPDATE SET digest = $3, updated_at = $4
"""
COUNTED = "UPDATE repositories SET tag_count = tag_count + $2 WHERE id = $1"
KEPT = "UPDATE manifests SET was_held = 1, released_epoch = NULL WHERE repository_id = $1 AND digest = $2"


async def put(
    tx: Transaction,
    repository_id: int,
    tag: str,
    digest: str,
    actor: Actor,
    *,
    now: int,
    epoch: int,
    action: AuditAction = AuditAction.TAG_PUSH,
) -> None:
    """Points the tag at a manifest of this repository; what it pointed at may thereby lose its last tag.

    Raises RegistryError DENIED for an immutable tag that names another one.
    """
    before = await find(tx, repository_id, tag)
    moved = before is not None and before != digest
    if moved:
        await policies.require_movable(tx, repository_id, [tag])
    await tx.execute(PUT, repository_id, tag, digest, now)
    if before is None:
        await tx.execute(COUNTED, repository_id, 1)
    await tx.execute(KEPT, repository_id, digest)
    await tx.execute(EVENT, repository_id, tag, digest, actor.subject, now, epoch)
    detail = f"was {before}" if moved else None
    await audit.record_image(tx, actor, action, repository_id, reference=tag, digest=digest, detail=detail)
    if before is not None and before != digest:
        await manifests.mark_released(tx, repository_id, before, epoch)


REMOVE = "DELETE FROM tags WHERE repository_id = $1 AND name = $2 RETURNING digest"


async def remove(tx: Transaction, repository_id: int, tag: str, actor: Actor, *, now: int, epoch: int) -> str | None:
    """Takes that tag only, and returns the digest it named; None if there was no such tag. Raises RegistryError DENIED
    for an immutable one, and the transaction is undone."""
    rows = await tx.fetch(REMOVE, repository_id, tag)
    if not rows:
        return None
    await policies.require_movable(tx, repository_id, [tag])
    digest = str(rows[0][0])
    await tx.execute(COUNTED, repository_id, -1)
    await tx.execute(EVENT, repository_id, tag, None, actor.subject, now, epoch)
    await audit.record_image(tx, actor, AuditAction.TAG_DELETE, repository_id, reference=tag, digest=digest)
    await manifests.mark_released(tx, repository_id, digest, epoch)
    return digest


OF_MANIFEST = "SELECT name FROM tags WHERE repository_id = $1 AND digest = $2 ORDER BY name"


async def of_manifest(reader: Reader, repository_id: int, digest: str) -> list[str]:
    return [row[0] for row in await reader.fetch(OF_MANIFEST, repository_id, digest)]


PAGE = "SELECT name FROM tags WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3"


async def page(reader: Reader, repository_id: int, after: str, limit: int) -> list[str]:
    """Names in bytewise order (end-8b)."""
    return [row[0] for row in await reader.fetch(PAGE, repository_id, after, limit)]
