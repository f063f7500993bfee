"""What a tag named before: the append-only events, newest first, and what of it could be named again."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader


class EventRow(NamedTuple):
    """``digest`` None: the tag was deleted. ``present``: its manifest is still there; ``released_epoch``: since when
    no tag names it."""

    id: int
    digest: str | None
    subject: str
    at: int
    present: int
    released_epoch: int | None


PAGE = """
SELECT e.id, e.digest, e.subject, e.at, CASE WHEN m.digest IS NULL THEN 0 ELSE 1 END, m.released_epoch
FROM tag_events e LEFT JOIN manifests m ON m.repository_id = e.repository_id AND m.digest = e.digest
WHERE e.repository_id = $1 AND e.name = $2 ORDER BY e.id DESC LIMIT $3 OFFSET $4
"""
COUNT = "SELECT count(*) FROM tag_events WHERE repository_id = $1 AND name = $2"


async def page(reader: Reader, repository_id: int, tag: str, limit: int, offset: int) -> tuple[list[EventRow], int]:
    """One page of a tag's events, and how many there are."""
    rows = await reader.fetch(PAGE, repository_id, tag, limit, offset)
    return [EventRow(*row) for row in rows], (await reader.fetch(COUNT, repository_id, tag))[0][0]


BEFORE = """
SELECT digest FROM tag_events WHERE repository_id = $1 AND name = $2 AND digest IS NOT NULL AND digest <> $3
ORDER BY id DESC LIMIT 1
"""


async def before(reader: Reader, repository_id: int, tag: str, current: str | None) -> str | None:
    """The digest that the tag named last, other than what it names now."""
    rows = await reader.fetch(BEFORE, repository_id, tag, current or "")
    return rows[0][0] if rows else None


NAMED = "SELECT 1 FROM tag_events WHERE repository_id = $1 AND name = $2 AND digest = $3 LIMIT 1"


async def has_named(reader: Reader, repository_id: int, tag: str, digest: str) -> bool:
    """Did the tag ever name the digest?"""
    return bool(await reader.fetch(NAMED, repository_id, tag, digest))


# Tags whose newest event is a deletion, by the same and of the same moment as the newest deletion of all: the greatest
# id, as the time of day may have been set back since.
LAST_DELETED = """
WITH newest AS (
    SELECT name, MAX(id) AS id FROM tag_events WHERE repository_id = $1 GROUP BY name
), gone AS (
    SELECT e.id, e.name, e.at, e.subject FROM newest JOIN tag_events e ON e.id = newest.id WHERE e.digest IS NULL
)
SELECT g.name FROM gone g JOIN gone l ON l.at = g.at AND l.subject = g.subject
WHERE l.id = (SELECT MAX(id) FROM gone) ORDER BY g.name
"""


async def last_deleted(reader: Reader, repository_id: int) -> list[str]:
    """The tags that went with the latest deletion: of one tag, or of the image."""
    return [row[0] for row in await reader.fetch(LAST_DELETED, repository_id)]
