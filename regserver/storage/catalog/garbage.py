"""What collection reads and takes. Each ``candidates`` only chooses what to try; each step proves again in its own
transaction that nothing holds what it takes (docs/gc-proof.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from regserver.storage.catalog import blobs, usage
from regserver.storage.catalog.lists import listed, lists
from regserver.storage.sql.port import Reader, Row, Transaction

UNTAGGED = """
SELECT m.repository_id, m.digest FROM repositories r JOIN manifests m ON m.repository_id = r.id
WHERE r.registry_id = $1 AND (m.repository_id, m.digest) > ($2, $3)
  AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = m.repository_id AND t.digest = m.digest)
ORDER BY m.repository_id, m.digest LIMIT $4
"""


async def untagged_manifests(reader: Reader, registry_id: str, after: tuple[int, str], limit: int) -> list[Row]:
    """(repository, digest) of manifests without a tag of their own."""
    return await reader.fetch(UNTAGGED, registry_id, after[0], after[1], limit)


UNTAGGED_COUNT = """
SELECT count(*) FROM repositories r JOIN manifests m ON m.repository_id = r.id
WHERE r.registry_id = $1
  AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = m.repository_id AND t.digest = m.digest)
"""


async def count_untagged(reader: Reader, registry_id: str) -> int:
    """How many manifests without a tag of their own the registry has. Walks its manifests: off the loop."""
    return int((await reader.fetch(UNTAGGED_COUNT, registry_id))[0][0])


KEEPERS = """
SELECT parent FROM manifest_children WHERE repository_id = $1 AND child = $2
UNION
SELECT s.digest FROM manifests m JOIN manifests s ON s.repository_id = m.repository_id AND s.digest = m.subject
WHERE m.repository_id = $1 AND m.digest = $2
"""


async def keepers(reader: Reader, repository_id: int, digest: str) -> list[str]:
    """The manifests that keep this one directly: the indexes that list it, and its subject."""
    return [row[0] for row in await reader.fetch(KEEPERS, repository_id, digest)]


ROOTED = """
SELECT 1 FROM manifests m WHERE m.repository_id = $1 AND m.digest = $2 AND (
  EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = $2)
  OR EXISTS (SELECT 1 FROM manifest_leases h WHERE h.repository_id = $1 AND h.digest = $2 AND h.epoch >= $3)
  OR (m.was_held = 0 AND m.pushed_epoch >= $4)
  OR m.released_epoch >= $5
  OR EXISTS (SELECT 1 FROM repositories r JOIN policies p ON p.registry_id = r.registry_id
             WHERE r.id = $1 AND p.keep_untagged = 1))
"""


class Floors(NamedTuple):
    """The oldest epochs that still hold something: a lease, an untagged push, a deleted tag that may be undone."""

    lease: int
    untagged: int
    undo: int


async def is_rooted(reader: Reader, repository_id: int, digest: str, floors: Floors) -> bool:
    """Does a tag, a lease, a window or the registry's policy hold this manifest itself?"""
    return bool(await reader.fetch(ROOTED, repository_id, digest, *floors))


LONE_DEAD = listed(
    """
SELECT m.digest FROM manifests m WHERE m.repository_id = $1 AND m.digest IN (<list>)
  AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = m.digest)
  AND NOT EXISTS (SELECT 1 FROM manifest_leases h
                  WHERE h.repository_id = $1 AND h.digest = m.digest AND h.epoch >= $2)
  AND NOT (m.was_held = 0 AND m.pushed_epoch >= $3)
  AND (m.released_epoch IS NULL OR m.released_epoch < $4)
  AND NOT EXISTS (SELECT 1 FROM repositories r JOIN policies p ON p.registry_id = r.registry_id
                  WHERE r.id = $1 AND p.keep_untagged = 1)
  AND NOT EXISTS (SELECT 1 FROM manifest_children c WHERE c.repository_id = $1 AND c.child = m.digest)
  AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = $1 AND s.digest = m.subject)
ORDER BY m.digest
""",
    5,
)


async def lone_dead(reader: Reader, repository_id: int, digests: Sequence[str], floors: Floors) -> list[str]:
    """Those of up to MANY manifests that nothing roots and nothing keeps: their closure is themselves (L8)."""
    (some,) = lists(digests)
    return [row[0] for row in await reader.fetch(LONE_DEAD, repository_id, *floors, *some)]


# Of one repository, behind $2 and up to $3: linked, used by no manifest here and held by no lease here.
_UNUSED = """
l.repository_id = $1 AND l.users = 0 AND l.digest > $2 AND l.digest <= $3
  AND NOT EXISTS (SELECT 1 FROM manifest_blobs e WHERE e.repository_id = $1 AND e.digest = l.digest)
  AND NOT EXISTS (SELECT 1 FROM blob_leases h WHERE h.repository_id = $1 AND h.digest = l.digest AND h.epoch >= $4)
"""
UNUSED_LINKS = "SELECT l.digest FROM repository_blobs AS l WHERE <unused> ORDER BY l.digest LIMIT $5".replace(
    "<unused>", _UNUSED
)
END = "~"  # behind every digest


async def unused_links(reader: Reader, repository_id: int, after: str, lease_floor: int, limit: int) -> list[str]:
    """Digests linked here that no manifest here uses and no lease here holds."""
    return [row[0] for row in await reader.fetch(UNUSED_LINKS, repository_id, after, END, lease_floor, limit)]


ONE_LESS = """
UPDATE blobs SET links = links - 1 WHERE digest IN (SELECT l.digest FROM repository_blobs AS l WHERE <unused>)
RETURNING digest, links
""".replace("<unused>", _UNUSED)
UNLINK = "DELETE FROM repository_blobs AS l WHERE <unused> RETURNING digest, size".replace("<unused>", _UNUSED)


async def drop_unused(
    tx: Transaction, repository_id: int, registry_id: str, after: str, upto: str, lease_floor: int
) -> int:
    """Ends the links behind ``after`` and up to ``upto`` that no manifest uses and no lease holds; returns how many.

    As ``blobs.end_link`` does it one by one: the blobs' rows are locked before those of links.
    """
    place = repository_id, after, upto, lease_floor
    links: dict[str, int] = dict(await tx.fetch(ONE_LESS, *place))
    for digest in sorted(digest for digest, left in links.items() if left == 1):
        await blobs.now_alone(tx, digest)
    image = registry = 0
    for digest, size in await tx.fetch(UNLINK, *place):
        image += size
        if not links[digest] or await blobs.size_in_registry(tx, registry_id, digest) is None:
            registry += size
    await usage.charge_image(tx, repository_id, -image)
    await usage.charge(tx, registry_id, -registry)
    return len(links)


LOOSE = """
SELECT b.digest FROM blobs b WHERE b.links = 0 AND b.digest > $1
  AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
  AND NOT EXISTS (SELECT 1 FROM blob_leases h WHERE h.digest = b.digest AND h.epoch >= $2)
ORDER BY b.digest LIMIT $3
"""


async def loose_blobs(reader: Reader, after: str, lease_floor: int, limit: int) -> list[str]:
    """Blobs without link and lease in any registry, in order."""
    return [row[0] for row in await reader.fetch(LOOSE, after, lease_floor, limit)]


# The same three conditions in each, of the digests behind $1 and up to $2: a transaction sees one state of them.
END_LEASES = """
DELETE FROM blob_leases WHERE epoch < $3
  AND digest IN (SELECT b.digest FROM blobs b WHERE b.links = 0 AND b.digest > $1 AND b.digest <= $2)
"""
# What is left of a rotten one, only unlink can tell.
CONDEMN = """
INSERT INTO trash (key, digest, size, job_id)
SELECT b.key, b.digest, CASE WHEN b.rotten IS NULL THEN b.size END, $3 FROM blobs AS b
WHERE b.links = 0 AND b.digest > $1 AND b.digest <= $2
  AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
  AND NOT EXISTS (SELECT 1 FROM blob_leases h WHERE h.digest = b.digest)
ON CONFLICT (key) DO NOTHING
"""
CONDEMNED = """
DELETE FROM blobs WHERE links = 0 AND digest > $1 AND digest <= $2
  AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = blobs.digest)
  AND NOT EXISTS (SELECT 1 FROM blob_leases h WHERE h.digest = blobs.digest)
"""
TRASH = """
INSERT INTO trash (key, digest, size, job_id) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING
"""


async def condemn(tx: Transaction, after: str, upto: str, lease_floor: int, job_id: str | None) -> int:
    """Keys into the trash and rows out, in one transaction, of the blobs behind ``after`` and up to ``upto`` that
    nothing anywhere links or leases. Returns how many."""
    await tx.execute(END_LEASES, after, upto, lease_floor)
    await tx.execute(CONDEMN, after, upto, job_id)
    return await tx.execute(CONDEMNED, after, upto)


async def trash(
    tx: Transaction, key: str, digest: str | None, size: int | None = None, job_id: str | None = None
) -> None:
    """The key's file is to be unlinked, after this transaction has committed and not before."""
    await tx.execute(TRASH, key, digest, size, job_id)


# One statement: what is seen in the trash is seen together with the holds that were there before it (lemma L16).
BATCH = """
SELECT key, digest FROM trash WHERE NOT EXISTS (SELECT 1 FROM trash_holds WHERE epoch >= $2)
ORDER BY digest, key LIMIT $1
"""


async def trashed(reader: Reader, limit: int, hold_floor: int) -> list[Row]:
    """What may be unlinked now, folder by folder: nothing while somebody holds the trash."""
    return await reader.fetch(BATCH, limit, hold_floor)


FORGET = listed("DELETE FROM trash WHERE key IN (<list>) RETURNING key, size, job_id", 1)
CREDIT = "UPDATE gc_jobs SET bytes_freed = bytes_freed + $2, blobs_deleted = blobs_deleted + $3 WHERE id = $1"


async def forget(tx: Transaction, freed: Mapping[str, int]) -> list[int]:
    """After the unlinks: the rows go, and the jobs that condemned the blobs are credited, by whoever takes the rows.

    ``freed``: what the disk gave back, by key. Returns the bytes of each row that was still there.
    """
    jobs: dict[str, list[int]] = {}
    counted = []
    for keys in lists(list(freed)):
        for key, size, job_id in await tx.fetch(FORGET, *keys):
            counted.append(freed[key] if size is None else int(size))
            if job_id is not None:
                jobs.setdefault(job_id, []).append(counted[-1])
    for job_id, sizes in sorted(jobs.items()):
        await tx.execute(CREDIT, job_id, sum(sizes), len(sizes))
    return counted


CREDITED = "SELECT bytes_freed, blobs_deleted FROM gc_jobs WHERE id = $1"


async def credited(reader: Reader, job_id: str) -> tuple[int, int]:
    """(bytes, blobs) that the disk got back for a job."""
    rows = await reader.fetch(CREDITED, job_id)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


WAITING = """
SELECT 1 FROM trash WHERE job_id = $1 AND NOT EXISTS (SELECT 1 FROM trash_holds WHERE epoch >= $2) LIMIT 1
"""


async def waiting(reader: Reader, job_id: str, hold_floor: int) -> bool:
    """Is any file that this job condemned still to be unlinked, and may be? What is held is credited to it later."""
    return bool(await reader.fetch(WAITING, job_id, hold_floor))


# One statement, so that a key in motion between the tables is never seen in none of them (lemma L7).
NAMED = """
SELECT 1 FROM uploads WHERE key = $1 UNION ALL SELECT 1 FROM blobs WHERE key = $1
UNION ALL SELECT 1 FROM trash WHERE key = $1 LIMIT 1
"""


async def is_named(reader: Reader, key: str) -> bool:
    """Does any table name the key?"""
    return bool(await reader.fetch(NAMED, key))
