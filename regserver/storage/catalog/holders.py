"""What holds what, one question at a time: for explanations and forecasts. Collection itself asks ``garbage``."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.catalog.garbage import Floors
from regserver.storage.sql.port import Reader


class ManifestFacts(NamedTuple):
    """What could hold a manifest besides tags and keepers. Epochs; ``lease`` is the youngest lease's; ``policy``: the
    registry keeps what has no tag."""

    size: int
    media_type: str
    was_held: int
    pushed_epoch: int
    released_epoch: int | None
    lease: int | None
    policy: int


FACTS = """
SELECT m.size, m.media_type, m.was_held, m.pushed_epoch, m.released_epoch,
       (SELECT MAX(h.epoch) FROM manifest_leases h WHERE h.repository_id = $1 AND h.digest = $2),
       CASE WHEN EXISTS (SELECT 1 FROM repositories r JOIN policies p ON p.registry_id = r.registry_id
                         WHERE r.id = $1 AND p.keep_untagged = 1) THEN 1 ELSE 0 END
FROM manifests m WHERE m.repository_id = $1 AND m.digest = $2
"""


async def manifest_facts(reader: Reader, repository_id: int, digest: str) -> ManifestFacts | None:
    rows = await reader.fetch(FACTS, repository_id, digest)
    return ManifestFacts(*rows[0]) if rows else None


DOWN = """
SELECT child FROM manifest_children WHERE repository_id = $1 AND parent = $2
UNION
SELECT digest FROM manifests WHERE repository_id = $1 AND subject = $2
"""


async def kept_by(reader: Reader, repository_id: int, digest: str) -> list[str]:
    """The manifests that this one keeps directly: its children and its referrers."""
    return [row[0] for row in await reader.fetch(DOWN, repository_id, digest)]


BLOBS_OF = """
SELECT b.digest, b.size FROM manifest_blobs e JOIN blobs b ON b.digest = e.digest
WHERE e.repository_id = $1 AND e.manifest = $2
"""


async def blobs_of(reader: Reader, repository_id: int, manifest: str) -> list[tuple[str, int]]:
    """(digest, size) of the blobs that a manifest references."""
    return [(row[0], row[1]) for row in await reader.fetch(BLOBS_OF, repository_id, manifest)]


USERS_OF = "SELECT manifest FROM manifest_blobs WHERE repository_id = $1 AND digest = $2 ORDER BY manifest"


async def users_of(reader: Reader, repository_id: int, digest: str) -> list[str]:
    """The manifests of a repository that reference a blob."""
    return [row[0] for row in await reader.fetch(USERS_OF, repository_id, digest)]


LINKS = "SELECT repository_id FROM repository_blobs WHERE digest = $1 LIMIT $2"


async def linking(reader: Reader, digest: str, limit: int) -> set[int]:
    """Up to so many repositories, of any registry, that link a blob."""
    return {row[0] for row in await reader.fetch(LINKS, digest, limit)}


LEASE_ANYWHERE = "SELECT MAX(epoch) FROM blob_leases WHERE digest = $1"
LEASE_HERE = "SELECT MAX(epoch) FROM blob_leases WHERE repository_id = $1 AND digest = $2"


async def blob_lease(reader: Reader, digest: str, repository_id: int | None = None) -> int | None:
    """The epoch of the youngest lease on a blob, in one repository or in any."""
    if repository_id is None:
        rows = await reader.fetch(LEASE_ANYWHERE, digest)
    else:
        rows = await reader.fetch(LEASE_HERE, repository_id, digest)
    epoch: int | None = rows[0][0]
    return epoch


# kept: what keeps what directly. held: what leases and windows keep once no tag does. UNION ends a cycle. freed: what
# only tags keep. From the bytes that are the image's alone those go off that another manifest has a say in and keeps.
RECLAIMABLE = """
WITH RECURSIVE kept (above, digest) AS (
    SELECT parent, child FROM manifest_children WHERE repository_id = $1
    UNION ALL SELECT subject, digest FROM manifests WHERE repository_id = $1 AND subject IS NOT NULL
), held (digest) AS (
    SELECT digest FROM manifests WHERE repository_id = $1
        AND ((was_held = 0 AND pushed_epoch >= $3) OR released_epoch >= $4)
    UNION SELECT digest FROM manifest_leases WHERE repository_id = $1 AND epoch >= $2
    UNION SELECT kept.digest FROM held JOIN kept ON kept.above = held.digest
), tagged (digest) AS (
    SELECT digest FROM tags WHERE repository_id = $1
    UNION SELECT kept.digest FROM tagged JOIN kept ON kept.above = tagged.digest
), freed (digest) AS (
    SELECT digest FROM tagged WHERE digest NOT IN (SELECT digest FROM held)
), others (digest) AS (
    SELECT digest FROM manifests WHERE repository_id = $1 AND digest NOT IN (SELECT digest FROM freed)
), touched (digest, size) AS (
    SELECT DISTINCT l.digest, l.size FROM others
    JOIN manifest_blobs AS e ON e.repository_id = $1 AND e.manifest = others.digest
    JOIN repository_blobs AS l ON l.repository_id = $1 AND l.digest = e.digest
    WHERE l.alone = 1 AND NOT EXISTS (SELECT 1 FROM blob_leases AS h WHERE h.digest = l.digest AND h.epoch >= $2)
), edges (digest, manifest) AS (
    SELECT e.digest, e.manifest FROM touched
    JOIN manifest_blobs AS e ON e.repository_id = $1 AND e.digest = touched.digest
), staying (size) AS (
    SELECT size FROM touched
    WHERE digest IN (SELECT u.digest FROM edges AS u JOIN held ON held.digest = u.manifest)
       OR digest NOT IN (SELECT u.digest FROM edges AS u JOIN freed ON freed.digest = u.manifest)
), own (size) AS (
    SELECT l.size FROM repository_blobs AS l WHERE l.repository_id = $1 AND l.alone = 1 AND l.users > 0
      AND NOT EXISTS (SELECT 1 FROM blob_leases AS h WHERE h.digest = l.digest AND h.epoch >= $2)
)
SELECT CAST((SELECT COALESCE(sum(size), 0) FROM own) - (SELECT COALESCE(sum(size), 0) FROM staying) AS BIGINT)
"""


async def reclaimable(reader: Reader, repository_id: int, floors: Floors) -> int:
    """Bytes of blobs that a collection would free if the image had no tag any more: of those that its tags reach, the
    ones that only dead manifests use (L8), that no other repository links, and that no lease holds (L5).

    Reads the image's links in order and its tags: time grows with both, and with what its other manifests use."""
    return int((await reader.fetch(RECLAIMABLE, repository_id, *floors))[0][0])


PLACES = """
SELECT r.id, r.name FROM repositories r WHERE r.registry_id = $1 AND (
  EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id AND m.digest = $2)
  OR EXISTS (SELECT 1 FROM repository_blobs l WHERE l.repository_id = r.id AND l.digest = $2))
ORDER BY r.name LIMIT $3
"""


async def places(reader: Reader, registry_id: str, digest: str, limit: int) -> list[tuple[int, str]]:
    """(id, image) of a registry's repositories that hold the digest as a manifest or as a blob."""
    return [(row[0], row[1]) for row in await reader.fetch(PLACES, registry_id, digest, limit)]


NAMES = "SELECT id, name FROM repositories WHERE registry_id = $1"


async def image_names(reader: Reader, registry_id: str) -> dict[int, str]:
    return {row[0]: row[1] for row in await reader.fetch(NAMES, registry_id)}
