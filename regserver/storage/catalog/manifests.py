"""Manifest rows, their bytes, and their edges to blobs and children."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.manifest import Descriptor, Manifest
from regserver.storage.catalog import usage
from regserver.storage.catalog.lists import listed, lists
from regserver.storage.sql.port import Reader, Transaction


class ManifestRow(NamedTuple):
    repository_id: int
    digest: str
    media_type: str
    size: int
    rotten_at: int | None  # since when it may not be served

    @property
    def sound(self) -> bool:
        return self.rotten_at is None


BY_TAG = """
SELECT m.repository_id, m.digest, m.media_type, m.size, m.rotten_at FROM repositories r
JOIN tags t ON t.repository_id = r.id JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest
WHERE r.registry_id = $1 AND r.name = $2 AND t.name = $3
"""


async def by_tag(reader: Reader, target: Target, tag: str) -> ManifestRow | None:
    rows = await reader.fetch(BY_TAG, target.registry_id, target.name.image, tag)
    return ManifestRow(*rows[0]) if rows else None


BY_DIGEST = """
SELECT m.repository_id, m.digest, m.media_type, m.size, m.rotten_at FROM repositories r
JOIN manifests m ON m.repository_id = r.id WHERE r.registry_id = $1 AND r.name = $2 AND m.digest = $3
"""


async def by_digest(reader: Reader, target: Target, digest: str) -> ManifestRow | None:
    rows = await reader.fetch(BY_DIGEST, target.registry_id, target.name.image, digest)
    return ManifestRow(*rows[0]) if rows else None


CONTENT = "SELECT content FROM manifests WHERE repository_id = $1 AND digest = $2 AND rotten_at IS NULL"


async def content(reader: Reader, repository_id: int, digest: str) -> bytes | None:
    """The bytes as they were pushed; None also for those that a scrub found rotten."""
    rows = await reader.fetch(CONTENT, repository_id, digest)
    return bytes(rows[0][0]) if rows else None


SIZE_HERE = "SELECT size FROM manifests WHERE repository_id = $1 AND digest = $2"


async def size_here(reader: Reader, repository_id: int, digest: str) -> int | None:
    rows = await reader.fetch(SIZE_HERE, repository_id, digest)
    return rows[0][0] if rows else None


SOUND = "SELECT 1 FROM manifests WHERE repository_id = $1 AND digest = $2 AND rotten_at IS NULL"


async def is_sound(reader: Reader, repository_id: int, digest: str) -> bool:
    """Is it here, and may it be served?"""
    return bool(await reader.fetch(SOUND, repository_id, digest))


INSERT = """
INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, annotations, was_held,
                       pushed_at, pushed_epoch, released_epoch, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, NULL, $10)
"""


async def insert(
    tx: Transaction, target: Target, repository_id: int, digest: Digest, manifest: Manifest, *, now: int, epoch: int
) -> None:
    """The row with its bytes, charged to the registry; edges follow in the same transaction."""
    subject = str(manifest.subject) if manifest.subject else None
    annotations = json.dumps(manifest.annotations) if manifest.subject and manifest.annotations else None
    size = len(manifest.content)
    await tx.execute(
        INSERT,
        repository_id,
        str(digest),
        manifest.media_type,
        size,
        subject,
        manifest.artifact_type,
        annotations,
        now,
        epoch,
        manifest.content,
    )
    await usage.charge(tx, target.registry_id, size)
    await usage.charge_image(tx, repository_id, size)


HELD = "UPDATE manifests SET was_held = 1 WHERE repository_id = $1 AND digest = $2 AND was_held = 0"


async def mark_held(tx: Transaction, repository_id: int, digest: str) -> None:
    """Something kept it once, so once nothing does it goes without the untagged window."""
    await tx.execute(HELD, repository_id, digest)


RELEASED = """
UPDATE manifests SET released_epoch = $3 WHERE repository_id = $1 AND digest = $2
  AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = $2)
"""


async def mark_released(tx: Transaction, repository_id: int, digest: str, epoch: int) -> None:
    """If its last tag has just gone: the undo window counts from here."""
    await tx.execute(RELEASED, repository_id, digest, epoch)


ADD_BLOB = """
INSERT INTO manifest_blobs (repository_id, manifest, digest) VALUES ($1, $2, $3)
ON CONFLICT (repository_id, manifest, digest) DO NOTHING
"""


USE_BLOBS = """
UPDATE repository_blobs SET users = users + 1 WHERE repository_id = $1
  AND digest IN (SELECT e.digest FROM manifest_blobs e WHERE e.repository_id = $1 AND e.manifest = $2)
"""


async def add_blobs(tx: Transaction, repository_id: int, manifest: str, digests: Iterable[str]) -> None:
    """All of a new manifest's edges to blobs at once, in the order of digests."""
    for digest in digests:
        await tx.execute(ADD_BLOB, repository_id, manifest, digest)
    await tx.execute(USE_BLOBS, repository_id, manifest)


ADD_CHILD = """
INSERT INTO manifest_children (repository_id, parent, child) VALUES ($1, $2, $3)
ON CONFLICT (repository_id, parent, child) DO NOTHING
"""


async def add_child(tx: Transaction, repository_id: int, parent: str, child: str) -> None:
    await tx.execute(ADD_CHILD, repository_id, parent, child)
    await mark_held(tx, repository_id, child)


ADD_MISSING = """
INSERT INTO missing_references (repository_id, manifest, digest, size, entry) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (repository_id, manifest, digest) DO NOTHING
"""


async def add_missing(tx: Transaction, repository_id: int, manifest: str, missing: Descriptor, *, entry: bool) -> None:
    """A reference allowed to dangle: met by whatever transaction brings the content (``adopt``, ``blobs.link``)."""
    await tx.execute(ADD_MISSING, repository_id, manifest, str(missing.digest), missing.size, int(entry))


WAITING = """
SELECT manifest FROM missing_references WHERE repository_id = $1 AND digest = $2 AND size = $3 AND entry = 1
"""
MET = "DELETE FROM missing_references WHERE repository_id = $1 AND manifest = $2 AND digest = $3"


async def adopt(tx: Transaction, repository_id: int, child: str, size: int) -> None:
    """A manifest has come that indexes here were allowed to wait for: it is their child from now on."""
    for (parent,) in await tx.fetch(WAITING, repository_id, child, size):
        await add_child(tx, repository_id, parent, child)
        await tx.execute(MET, repository_id, parent, child)


PARENT = "SELECT parent FROM manifest_children WHERE repository_id = $1 AND child = $2 AND parent <> $2 LIMIT 1"


async def parent(reader: Reader, repository_id: int, child: str) -> str | None:
    """One index of this repository that lists the manifest, else None."""
    rows = await reader.fetch(PARENT, repository_id, child)
    return rows[0][0] if rows else None


REFERRERS_OF = "SELECT digest FROM manifests WHERE repository_id = $1 AND subject = $2"


async def referrers_of(reader: Reader, repository_id: int, subject: str) -> list[str]:
    return [row[0] for row in await reader.fetch(REFERRERS_OF, repository_id, subject)]


UNUSE_BLOBS = listed(
    """
UPDATE repository_blobs SET users = users - (
    SELECT count(*) FROM manifest_blobs AS e
    WHERE e.repository_id = $1 AND e.digest = repository_blobs.digest AND e.manifest IN (<list>))
WHERE repository_id = $1 AND digest IN (
    SELECT e.digest FROM manifest_blobs AS e WHERE e.repository_id = $1 AND e.manifest IN (<list>))
""",
    2,
)
DROP_BLOBS = listed("DELETE FROM manifest_blobs WHERE repository_id = $1 AND manifest IN (<list>)", 2)
DROP_CHILDREN = listed("DELETE FROM manifest_children WHERE repository_id = $1 AND parent IN (<list>)", 2)
DROP_MISSING = listed("DELETE FROM missing_references WHERE repository_id = $1 AND manifest IN (<list>)", 2)
DROP_PULLS = listed("DELETE FROM manifest_pulls WHERE repository_id = $1 AND digest IN (<list>)", 2)
DROP_LEASES = listed("DELETE FROM manifest_leases WHERE repository_id = $1 AND digest IN (<list>)", 2)
DELETE = listed("DELETE FROM manifests WHERE repository_id = $1 AND digest IN (<list>) RETURNING size", 2)


async def delete(tx: Transaction, registry_id: str, repository_id: int, digests: Sequence[str]) -> int:
    """The rows, after everything that hangs on them from below, and every promise about them (I3); gives their bytes
    back to the registry. Returns how many went. A tag or a parent that is left is refused by a key."""
    count = size = 0
    for some in lists(digests):
        for statement in (UNUSE_BLOBS, DROP_BLOBS, DROP_CHILDREN, DROP_MISSING, DROP_PULLS, DROP_LEASES):
            await tx.execute(statement, repository_id, *some)
    for some in lists(digests):
        rows = await tx.fetch(DELETE, repository_id, *some)
        count, size = count + len(rows), size + sum(row[0] for row in rows)
    await usage.charge(tx, registry_id, -size)
    await usage.charge_image(tx, repository_id, -size)
    return count
