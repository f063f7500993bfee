"""When manifests were last fetched, and what retention knows of an image's tags."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader, Transaction

_NOTE = """
INSERT INTO manifest_pulls (repository_id, digest, at, epoch)
SELECT m.repository_id, m.digest, $3, $4 FROM manifests AS m WHERE m.repository_id = $1 AND m.digest = $2
ON CONFLICT (repository_id, digest) DO UPDATE SET at = $3, epoch = $4
"""


async def note(tx: Transaction, repository_id: int, digest: str, at: int, epoch: int) -> bool:
    """A manifest was fetched; False for one that has gone since."""
    return await tx.execute(_NOTE, repository_id, digest, at, epoch) == 1


# Whoever fetches what an index lists uses that index too: a pull counts for everything above. A tag whose newest event
# does not say what it names is not among these, so nothing is decided of it.
_FACTS = """
WITH RECURSIVE pulled (digest, at, epoch) AS (
    SELECT digest, at, epoch FROM manifest_pulls WHERE repository_id = $1
    UNION
    SELECT c.parent, p.at, p.epoch FROM pulled AS p
    JOIN manifest_children AS c ON c.repository_id = $1 AND c.child = p.digest
), latest AS (
    SELECT digest, max(at) AS at, max(epoch) AS epoch FROM pulled GROUP BY digest
)
SELECT t.name, t.digest, e.id, e.at, e.epoch, l.at, l.epoch,
       CASE WHEN EXISTS (SELECT 1 FROM manifests AS m WHERE m.repository_id = $1
                         AND m.digest >= replace(substr(t.name, 1, 71), '-', ':')
                         AND m.digest < replace(substr(t.name, 1, 71), '-', ':') || 'g') THEN 1 ELSE 0 END
FROM tags AS t
JOIN tag_events AS e ON e.id = (SELECT max(x.id) FROM tag_events AS x WHERE x.repository_id = $1 AND x.name = t.name)
LEFT JOIN latest AS l ON l.digest = t.digest
WHERE t.repository_id = $1 AND e.digest = t.digest ORDER BY e.id DESC
"""


class TagFacts(NamedTuple):
    """A tag as retention sees it. ``order``: grows with every push, whatever the clocks say. Times in milliseconds.

    ``described``: a manifest is there that the tag's name spells, as ``sha256-<hex>`` and what cosign appends do.
    """

    name: str
    digest: str
    order: int
    pushed_at: int
    pushed_epoch: int
    pulled_at: int | None
    pulled_epoch: int | None
    described: int


async def tag_facts(reader: Reader, repository_id: int) -> list[TagFacts]:
    """An image's tags, the one that was pushed last first."""
    return [TagFacts(*row) for row in await reader.fetch(_FACTS, repository_id)]


_FACT = """
WITH RECURSIVE holds (digest) AS (
    SELECT digest FROM tags WHERE repository_id = $1 AND name = $2
    UNION
    SELECT c.child FROM holds AS h JOIN manifest_children AS c ON c.repository_id = $1 AND c.parent = h.digest
), latest AS (
    SELECT max(p.at) AS at, max(p.epoch) AS epoch
    FROM holds AS h JOIN manifest_pulls AS p ON p.repository_id = $1 AND p.digest = h.digest
)
SELECT t.name, t.digest, e.id, e.at, e.epoch, l.at, l.epoch,
       CASE WHEN EXISTS (SELECT 1 FROM manifests AS m WHERE m.repository_id = $1
                         AND m.digest >= replace(substr(t.name, 1, 71), '-', ':')
                         AND m.digest < replace(substr(t.name, 1, 71), '-', ':') || 'g') THEN 1 ELSE 0 END
FROM tags AS t
JOIN tag_events AS e ON e.id = (SELECT max(x.id) FROM tag_events AS x WHERE x.repository_id = $1 AND x.name = $2)
JOIN latest AS l ON 1 = 1
WHERE t.repository_id = $1 AND t.name = $2 AND e.digest = t.digest
"""


async def facts_of(reader: Reader, repository_id: int, tag: str) -> TagFacts | None:
    """One tag as ``tag_facts`` has it; None where that leaves it out."""
    rows = await reader.fetch(_FACT, repository_id, tag)
    return TagFacts(*rows[0]) if rows else None


_OF_TAG = """
WITH RECURSIVE holds (digest) AS (
    SELECT digest FROM tags WHERE repository_id = $1 AND name = $2
    UNION
    SELECT c.child FROM holds AS h JOIN manifest_children AS c ON c.repository_id = $1 AND c.parent = h.digest
)
SELECT max(p.at) FROM holds AS h JOIN manifest_pulls AS p ON p.repository_id = $1 AND p.digest = h.digest
"""
_OF_IMAGE = "SELECT max(at) FROM manifest_pulls WHERE repository_id = $1"


async def last(reader: Reader, repository_id: int, tag: str | None = None) -> int | None:
    """When what a tag names, or anything of the image, was last pulled: milliseconds, None for never."""
    if tag is None:
        rows = await reader.fetch(_OF_IMAGE, repository_id)
    else:
        rows = await reader.fetch(_OF_TAG, repository_id, tag)
    at: int | None = rows[0][0]
    return at
