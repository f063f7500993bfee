"""What a scrub walks, and the state of content that is no longer what its digest says.

A blob is marked only while the key whose file was read is still the blob's, in the transaction that marks it: a blob
that was collected, healed or pushed anew meanwhile has another key, or no row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from regserver.storage.sql.port import Reader, Transaction


class Rot(StrEnum):
    """In what way a blob is not what it was. The values are part of the management API."""

    DIGEST = "digest"  # other bytes of the same number
    SIZE = "size"  # other bytes of another number
    MISSING = "missing"
    UNREADABLE = "unreadable"


class BlobRow(NamedTuple):
    digest: str
    size: int
    key: str
    rotten: str | None


class DamageRow(NamedTuple):
    """``repository_id`` is a manifest's; 0 with a blob. ``at`` in milliseconds."""

    kind: str
    digest: str
    repository_id: int
    fault: str
    at: int


BLOBS = "SELECT digest, size, key, rotten FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2"


async def blobs_behind(reader: Reader, after: str, limit: int) -> list[BlobRow]:
    return [BlobRow(*row) for row in await reader.fetch(BLOBS, after, limit)]


KEY = "SELECT key FROM blobs WHERE digest = $1"


async def key_of(reader: Reader, digest: str) -> str | None:
    """The key of a blob's file now; None without a row."""
    rows = await reader.fetch(KEY, digest)
    return rows[0][0] if rows else None


TOTAL = "SELECT CAST(COALESCE(sum(size), 0) AS BIGINT) FROM blobs"


async def total_bytes(reader: Reader) -> int:
    """Of all blobs. Walks them: once in a pass, off the loop."""
    return int((await reader.fetch(TOTAL))[0][0])


MARK = """
UPDATE blobs SET rotten = $3, rotten_at = $4 WHERE digest = $1 AND key = $2 AND rotten IS NULL
"""


async def mark_rotten(tx: Transaction, digest: str, key: str, rot: Rot, now: int) -> bool:
    """From this commit on nobody is served the blob. False if the key is not the blob's any more, or it is marked."""
    return await tx.execute(MARK, digest, key, rot, now) == 1


SOUND = """
UPDATE blobs SET rotten = NULL, rotten_at = NULL WHERE digest = $1 AND key = $2 AND rotten IS NOT NULL
"""


async def mark_sound(tx: Transaction, digest: str, key: str) -> bool:
    """The key's file is what it should be, after all. False if the key is not the blob's any more, or not marked."""
    return await tx.execute(SOUND, digest, key) == 1


ROTTEN_KEY = "SELECT key FROM blobs WHERE digest = $1 AND rotten IS NOT NULL"
REPLACE = """
UPDATE blobs SET key = $3, rotten = NULL, rotten_at = NULL WHERE digest = $1 AND key = $2 AND rotten IS NOT NULL
"""


async def heal(tx: Transaction, digest: str, key: str) -> str | None:
    """Makes the key's file the blob in place of a rotten one; links and counters stay as they are.

    Returns the key that the blob had, which the caller puts into the trash; None if the blob is not rotten.
    """
    rows = await tx.fetch(ROTTEN_KEY, digest)
    if not rows or await tx.execute(REPLACE, digest, rows[0][0], key) == 0:
        return None
    earlier: str = rows[0][0]
    return earlier


HOLDERS = """
SELECT registry_id, min(repository_id), count(*) FROM repository_blobs WHERE digest = $1
GROUP BY registry_id ORDER BY registry_id
"""


async def holders(reader: Reader, digest: str) -> list[tuple[int, int]]:
    """For each registry that links the blob: (one of its repositories, how many of them link it)."""
    return [(row[1], row[2]) for row in await reader.fetch(HOLDERS, digest)]


IMAGES = """
SELECT g.name, r.name FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id
JOIN registries g ON g.id = r.registry_id WHERE l.digest = $1 ORDER BY g.name, r.name LIMIT $2
"""


async def images(reader: Reader, digest: str, limit: int) -> list[str]:
    """Repositories, of any registry, that link the blob: ``registry/image``."""
    return [f"{row[0]}/{row[1]}" for row in await reader.fetch(IMAGES, digest, limit)]


ROTTEN_BLOBS = "SELECT count(*) FROM blobs WHERE rotten IS NOT NULL"
ROTTEN_MANIFESTS = "SELECT count(*) FROM manifests WHERE rotten_at IS NOT NULL"


async def rotten_counts(reader: Reader) -> tuple[int, int]:
    """How many blobs and manifests are marked now."""
    return (await reader.fetch(ROTTEN_BLOBS))[0][0], (await reader.fetch(ROTTEN_MANIFESTS))[0][0]


DAMAGE = """
WITH damage AS (
    SELECT 'blob' AS kind, digest, 0 AS repository_id, rotten AS fault, rotten_at FROM blobs WHERE rotten IS NOT NULL
    UNION ALL
    SELECT 'manifest', digest, repository_id, 'digest', rotten_at FROM manifests WHERE rotten_at IS NOT NULL
)
SELECT kind, digest, repository_id, fault, rotten_at FROM damage
ORDER BY rotten_at DESC, digest, repository_id LIMIT $1 OFFSET $2
"""


async def damage(reader: Reader, limit: int, offset: int) -> list[DamageRow]:
    """What is marked now, the latest first."""
    return [DamageRow(*row) for row in await reader.fetch(DAMAGE, limit, offset)]


IMAGE = """
SELECT g.name, r.name FROM repositories r JOIN registries g ON g.id = r.registry_id WHERE r.id = $1
"""


async def image(reader: Reader, repository_id: int) -> list[str]:
    """The repository as ``registry/image``."""
    return [f"{row[0]}/{row[1]}" for row in await reader.fetch(IMAGE, repository_id)]


# -- manifests


class ManifestKey(NamedTuple):
    repository_id: int
    digest: str


class ManifestFacts(NamedTuple):
    content: bytes
    size: int
    rotten: bool
    image: str
    registry_id: str


MANIFESTS = """
SELECT repository_id, digest FROM manifests WHERE (repository_id, digest) > ($1, $2)
ORDER BY repository_id, digest LIMIT $3
"""


async def manifests_behind(reader: Reader, after: ManifestKey, limit: int) -> list[ManifestKey]:
    return [ManifestKey(*row) for row in await reader.fetch(MANIFESTS, *after, limit)]


MANIFEST = """
SELECT m.content, m.size, m.rotten_at, g.name, r.name, r.registry_id FROM manifests m
JOIN repositories r ON r.id = m.repository_id JOIN registries g ON g.id = r.registry_id
WHERE m.repository_id = $1 AND m.digest = $2
"""


async def manifest(reader: Reader, key: ManifestKey) -> ManifestFacts | None:
    rows = await reader.fetch(MANIFEST, *key)
    if not rows:
        return None
    content, size, rotten_at, registry, image, registry_id = rows[0]
    return ManifestFacts(bytes(content), size, rotten_at is not None, f"{registry}/{image}", registry_id)


MARK_MANIFEST = "UPDATE manifests SET rotten_at = $3 WHERE repository_id = $1 AND digest = $2 AND rotten_at IS NULL"


async def mark_manifest(tx: Transaction, key: ManifestKey, now: int) -> bool:
    """From this commit on nobody is served the manifest. The transaction has read its bytes itself."""
    return await tx.execute(MARK_MANIFEST, *key, now) == 1


HEAL_MANIFEST = """
UPDATE manifests SET content = $3, rotten_at = NULL WHERE repository_id = $1 AND digest = $2 AND rotten_at IS NOT NULL
"""


async def heal_manifest(tx: Transaction, repository_id: int, digest: str, content: bytes) -> bool:
    """Puts the bytes, which the caller has verified, in place of rotten ones. False if they were not rotten."""
    return await tx.execute(HEAL_MANIFEST, repository_id, digest, content) == 1


ANY_ROTTEN = """
SELECT 1 FROM blobs WHERE rotten IS NOT NULL UNION ALL SELECT 1 FROM manifests WHERE rotten_at IS NOT NULL LIMIT 1
"""
HOLLOW = """
WITH RECURSIVE below (digest) AS (
    SELECT digest FROM manifests WHERE repository_id = $1 AND digest = $2
    UNION
    SELECT c.child FROM below JOIN manifest_children c ON c.repository_id = $1 AND c.parent = below.digest
)
SELECT 1 FROM below JOIN manifest_blobs e ON e.repository_id = $1 AND e.manifest = below.digest
JOIN blobs b ON b.digest = e.digest WHERE b.rotten IS NOT NULL
UNION ALL
SELECT 1 FROM below JOIN manifests m ON m.repository_id = $1 AND m.digest = below.digest WHERE m.rotten_at IS NOT NULL
LIMIT 1
"""


async def is_hollow(reader: Reader, repository_id: int, digest: str) -> bool:
    """Is anything marked of what a manifest needs: itself, its children, their blobs? Cheap where nothing is at all."""
    if not await reader.fetch(ANY_ROTTEN):
        return False
    return bool(await reader.fetch(HOLLOW, repository_id, digest))


MARKED = """
SELECT 1 FROM blobs WHERE digest = $2 AND rotten IS NOT NULL
UNION ALL
SELECT 1 FROM repositories r JOIN manifests m ON m.repository_id = r.id AND m.digest = $2
WHERE r.registry_id = $1 AND m.rotten_at IS NOT NULL LIMIT 1
"""


async def is_marked(reader: Reader, registry_id: str, digest: str) -> bool:
    """Is the blob withdrawn, or a manifest of this registry? The caller knows that the registry has the digest."""
    return bool(await reader.fetch(MARKED, registry_id, digest))


# -- the pass in the background


class Position(NamedTuple):
    """Where a pass goes on: behind ``after`` in its phase, in that repository."""

    phase: str
    repository_id: int
    after: str


class Tally(NamedTuple):
    """What a pass has read so far."""

    blobs: int = 0
    manifests: int = 0
    bytes: int = 0


class PassRow(NamedTuple):
    """``phase`` None: ended, at ``ended_at``. Times in milliseconds."""

    phase: str | None
    repository_id: int
    after: str
    blobs: int
    manifests: int
    bytes: int
    bytes_total: int
    started_at: int
    ended_at: int | None


LATEST = """
SELECT phase, repository_id, after, blobs, manifests, bytes, bytes_total, started_at, ended_at FROM scrub WHERE id = 1
"""


async def latest_pass(reader: Reader) -> PassRow | None:
    rows = await reader.fetch(LATEST)
    return PassRow(*rows[0]) if rows else None


BEGIN = """
INSERT INTO scrub (id, phase, repository_id, after, blobs, manifests, bytes, bytes_total, started_at, ended_at)
VALUES (1, $1, $2, $3, 0, 0, 0, $4, $5, NULL)
ON CONFLICT (id) DO UPDATE SET phase = $1, repository_id = $2, after = $3, blobs = 0, manifests = 0, bytes = 0,
    bytes_total = $4, started_at = $5, ended_at = NULL
"""


async def begin_pass(tx: Transaction, position: Position, bytes_total: int, now: int) -> None:
    await tx.execute(BEGIN, *position, bytes_total, now)


ADVANCE = """
UPDATE scrub SET phase = $1, repository_id = $2, after = $3, blobs = $4, manifests = $5, bytes = $6
WHERE id = 1 AND started_at = $7 AND phase IS NOT NULL
"""


async def advance_pass(tx: Transaction, position: Position, tally: Tally, started_at: int) -> None:
    """Notes how far the pass of that start is; another one is left as it is."""
    await tx.execute(ADVANCE, *position, *tally, started_at)


END = """
UPDATE scrub SET phase = NULL, blobs = $1, manifests = $2, bytes = $3, ended_at = $5 WHERE id = 1 AND started_at = $4
"""


async def end_pass(tx: Transaction, tally: Tally, started_at: int, now: int) -> None:
    await tx.execute(END, *tally, started_at, now)
