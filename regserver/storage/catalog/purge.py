"""What is left of a registry that is ``deleting``, taken away in bounded steps in the foreign keys' order."""

from __future__ import annotations

from regserver.storage.catalog import blobs, garbage
from regserver.storage.sql.port import Reader, Transaction

_REPOSITORY = "SELECT id FROM repositories WHERE registry_id = $1 ORDER BY id LIMIT 1"


async def a_repository(reader: Reader, registry_id: str) -> int | None:
    """Any repository that the registry still has."""
    rows = await reader.fetch(_REPOSITORY, registry_id)
    return rows[0][0] if rows else None


_TAGS = """
DELETE FROM tags WHERE repository_id = $1
    AND name IN (SELECT name FROM tags WHERE repository_id = $1 ORDER BY name LIMIT $2)
"""
_TAG_EVENTS = """
DELETE FROM tag_events WHERE id IN (SELECT id FROM tag_events WHERE repository_id = $1 LIMIT $2)
"""
_MANIFEST_LEASES = """
DELETE FROM manifest_leases WHERE repository_id = $1 AND (session, digest) IN
    (SELECT session, digest FROM manifest_leases WHERE repository_id = $1 ORDER BY session, digest LIMIT $2)
"""
_BLOB_LEASES = """
DELETE FROM blob_leases WHERE repository_id = $1 AND (session, digest) IN
    (SELECT session, digest FROM blob_leases WHERE repository_id = $1 ORDER BY session, digest LIMIT $2)
"""
_MANIFEST_CHILDREN = """
DELETE FROM manifest_children WHERE repository_id = $1 AND (parent, child) IN
    (SELECT parent, child FROM manifest_children WHERE repository_id = $1 ORDER BY parent, child LIMIT $2)
"""
_MANIFEST_BLOBS = """
DELETE FROM manifest_blobs WHERE repository_id = $1 AND (manifest, digest) IN
    (SELECT manifest, digest FROM manifest_blobs WHERE repository_id = $1 ORDER BY manifest, digest LIMIT $2)
"""
_MISSING_REFERENCES = """
DELETE FROM missing_references WHERE repository_id = $1 AND (manifest, digest) IN
    (SELECT manifest, digest FROM missing_references WHERE repository_id = $1 ORDER BY manifest, digest LIMIT $2)
"""
_PULLS = """
DELETE FROM manifest_pulls WHERE repository_id = $1
    AND digest IN (SELECT digest FROM manifest_pulls WHERE repository_id = $1 ORDER BY digest LIMIT $2)
"""
_MANIFESTS = """
DELETE FROM manifests WHERE repository_id = $1
    AND digest IN (SELECT digest FROM manifests WHERE repository_id = $1 ORDER BY digest LIMIT $2)
"""
_LINKS = "SELECT digest FROM repository_blobs WHERE repository_id = $1 ORDER BY digest LIMIT $2"
# What names comes before what is named.
_ORDER = (
    _TAGS,
    _TAG_EVENTS,
    _MANIFEST_LEASES,
    _BLOB_LEASES,
    _MANIFEST_CHILDREN,
    _MANIFEST_BLOBS,
    _MISSING_REFERENCES,
    _PULLS,
    _MANIFESTS,
)


async def some_rows(tx: Transaction, repository_id: int, limit: int) -> int:
    """Takes at most ``limit`` rows away, of the first table in order that has any. 0: none is left in any.

    What only its own rows count, such as the bytes of an image, goes with them; what others see is kept exact.
    """
    for statement in _ORDER:
        if taken := await tx.execute(statement, repository_id, limit):
            return taken
    links = await tx.fetch(_LINKS, repository_id, limit)
    for (digest,) in links:
        await blobs.end_link(tx, repository_id, digest)
    return len(links)


_UPLOADS = """
DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE repository_id = $1 ORDER BY id LIMIT $2)
RETURNING key
"""


async def some_uploads(tx: Transaction, repository_id: int, limit: int) -> int:
    """Ends open uploads. Their keys go to the trash in the same transaction: the fence against a late finish."""
    keys = await tx.fetch(_UPLOADS, repository_id, limit)
    for (key,) in keys:
        await garbage.trash(tx, key, None)
    return len(keys)


_FORGET_REPOSITORY = "DELETE FROM repositories WHERE id = $1"


async def forget_repository(tx: Transaction, repository_id: int) -> None:
    """Raises IntegrityFailed while anything still names it."""
    await tx.execute(_FORGET_REPOSITORY, repository_id)


_JOBS = "DELETE FROM gc_jobs WHERE registry_id = $1"
_POLICY = "DELETE FROM policies WHERE registry_id = $1"
_REGISTRY = "DELETE FROM registries WHERE id = $1 AND status = 'deleting'"


async def forget_registry(tx: Transaction, registry_id: str) -> None:
    """Ends its jobs, its policy and its row. Raises IntegrityFailed while a repository or a credential is left."""
    await tx.execute(_JOBS, registry_id)
    await tx.execute(_POLICY, registry_id)
    await tx.execute(_REGISTRY, registry_id)
