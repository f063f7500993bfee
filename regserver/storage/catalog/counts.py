"""The counts that blobs and links keep (migration 0011), told anew: for scrub and for tests.

They choose what a collection tries and what a forecast shows; nothing is ever deleted on their word alone.
"""

from __future__ import annotations

from regserver.storage.sql.port import Reader, Transaction

_USERS = """
(SELECT count(*) FROM manifest_blobs AS e
 WHERE e.repository_id = repository_blobs.repository_id AND e.digest = repository_blobs.digest)
"""
_SIZE = "(SELECT b.size FROM blobs AS b WHERE b.digest = repository_blobs.digest)"
_ALONE = """
(SELECT CASE WHEN count(*) = 1 THEN 1 ELSE 0 END FROM repository_blobs AS o WHERE o.digest = repository_blobs.digest)
"""


def _counting(sql: str) -> str:
    return sql.replace("<users>", _USERS).replace("<size>", _SIZE).replace("<alone>", _ALONE)


WRONG_LINKS = _counting(
    "SELECT count(*) FROM repository_blobs WHERE registry_id = $1 "
    "AND (users <> <users> OR size <> <size> OR alone <> <alone>)"
)
CORRECT_LINKS = _counting(
    "UPDATE repository_blobs SET users = <users>, size = <size>, alone = <alone> WHERE registry_id = $1"
)


async def wrong_links(reader: Reader, registry_id: str) -> int:
    """How many links of a registry count wrongly. Slow: off the loop."""
    return int((await reader.fetch(WRONG_LINKS, registry_id))[0][0])


async def correct_links(tx: Transaction, registry_id: str) -> None:
    """Every link of a registry as this transaction sees it."""
    await tx.execute(CORRECT_LINKS, registry_id)


WRONG_BLOBS = """
SELECT digest FROM blobs
WHERE digest > $1 AND links <> (SELECT count(*) FROM repository_blobs AS l WHERE l.digest = blobs.digest)
ORDER BY digest LIMIT $2
"""
CORRECT_BLOB = """
UPDATE blobs SET links = (SELECT count(*) FROM repository_blobs AS l WHERE l.digest = blobs.digest) WHERE digest = $1
"""


async def wrong_blobs(reader: Reader, after: str, limit: int) -> list[str]:
    """Digests of blobs that count their links wrongly. Walks the blobs in order: off the loop."""
    return [row[0] for row in await reader.fetch(WRONG_BLOBS, after, limit)]


async def correct_blob(tx: Transaction, digest: str) -> None:
    await tx.execute(CORRECT_BLOB, digest)
