"""Blob rows (which file is the blob) and links (which repository may serve it)."""

from __future__ import annotations

from typing import NamedTuple

from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.storage.catalog import usage
from regserver.storage.sql.port import Reader, Row, Transaction


class Linked(NamedTuple):
    repository_id: int
    size: int
    key: str


LINKED = """
SELECT r.id, b.size, b.key FROM repositories r
JOIN repository_blobs l ON l.repository_id = r.id JOIN blobs b ON b.digest = l.digest
WHERE r.registry_id = $1 AND r.name = $2 AND l.digest = $3 AND b.rotten IS NULL
"""


async def linked(reader: Reader, target: Target, digest: Digest) -> Linked | None:
    """The blob as this repository may serve it; None without a link here, whatever else the store holds (I4), and for
    one that a scrub found rotten."""
    rows = await reader.fetch(LINKED, target.registry_id, target.name.image, str(digest))
    return Linked(*rows[0]) if rows else None


HERE = """
SELECT b.size, b.rotten FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
WHERE l.repository_id = $1 AND l.digest = $2
"""


async def size_here(reader: Reader, repository_id: int, digest: str, *, rotten: bool = False) -> int | None:
    """The size of a blob linked in this repository, else None; ``rotten``: even of one that may not be served."""
    rows = await reader.fetch(HERE, repository_id, digest)
    return rows[0][0] if rows and (rotten or rows[0][1] is None) else None


SIZE = "SELECT size FROM blobs WHERE digest = $1"


async def size(reader: Reader, digest: str) -> int | None:
    """The size of a blob that has a row, linked or not, rotten or not."""
    rows = await reader.fetch(SIZE, digest)
    return rows[0][0] if rows else None


SOUND_SIZE = "SELECT size FROM blobs WHERE digest = $1 AND rotten IS NULL"


async def sound_size(reader: Reader, digest: str) -> int | None:
    """The size of a blob that has a row, linked or not; None for one that may not be served."""
    rows = await reader.fetch(SOUND_SIZE, digest)
    return rows[0][0] if rows else None


ANYWHERE_IN_REGISTRY = """
SELECT b.size FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
WHERE l.digest = $2 AND l.registry_id = $1 LIMIT 1
"""


async def size_in_registry(reader: Reader, registry_id: str, digest: str) -> int | None:
    """The size of a blob that any repository of this registry links, rotten or not, else None."""
    rows = await reader.fetch(ANYWHERE_IN_REGISTRY, registry_id, digest)
    return rows[0][0] if rows else None


IMAGES_WITH = """
SELECT l.repository_id, r.name FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id
WHERE l.digest = $2 AND l.registry_id = $1 AND l.repository_id > $3 ORDER BY l.repository_id LIMIT $4
"""


async def images_with(reader: Reader, registry_id: str, digest: str, after: int, limit: int) -> list[Row]:
    """(repository id, image) of the registry's repositories that link the blob, from the one behind ``after`` on."""
    return await reader.fetch(IMAGES_WITH, registry_id, digest, after, limit)


INSERT = "INSERT INTO blobs (digest, size, key) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING"


async def insert(tx: Transaction, digest: Digest, size: int, key: str) -> bool:
    """Makes the key's file the blob; False if the digest has one already (the caller's key is then to be trashed)."""
    return await tx.execute(INSERT, str(digest), size, key) == 1


# A blob without a row has no count, and NOT NULL refuses the link.
LINK = """
INSERT INTO repository_blobs (repository_id, digest, registry_id, size, alone)
VALUES ($1, $2, $3, $4, (SELECT CASE WHEN links = 0 THEN 1 ELSE 0 END FROM blobs WHERE digest = $2))
ON CONFLICT (repository_id, digest) DO NOTHING
"""
ONE_MORE = "UPDATE blobs SET links = links + 1 WHERE digest = $1 RETURNING links"
NOT_ALONE = "UPDATE repository_blobs SET alone = 0 WHERE digest = $1 AND alone = 1"


async def link(tx: Transaction, repository_id: int, registry_id: str, digest: str, size: int) -> None:
    """Lets the repository serve the blob, charges the registry if it is its first link, and meets waiting references.

    The caller has proven the right to link: own bytes, a readable source, or an own lease (I4).
    """
    first = await size_in_registry(tx, registry_id, digest) is None
    if await tx.execute(LINK, repository_id, digest, registry_id, size) == 0:
        return
    if (await tx.fetch(ONE_MORE, digest))[0][0] == 2:  # there are two links to look at, and the other was alone
        await tx.execute(NOT_ALONE, digest)
    await usage.charge_image(tx, repository_id, size)
    if first:
        await usage.charge(tx, registry_id, size)
    await _meet(tx, repository_id, digest, size)


WAITING = "SELECT manifest FROM missing_references WHERE repository_id = $1 AND digest = $2 AND size = $3"
MEET = "INSERT INTO manifest_blobs (repository_id, manifest, digest) VALUES ($1, $2, $3)"
MET = "DELETE FROM missing_references WHERE repository_id = $1 AND manifest = $2 AND digest = $3"
USED = "UPDATE repository_blobs SET users = users + 1 WHERE repository_id = $1 AND digest = $2"


async def _meet(tx: Transaction, repository_id: int, digest: str, size: int) -> None:
    for (manifest,) in await tx.fetch(WAITING, repository_id, digest, size):
        await tx.execute(MEET, repository_id, manifest, digest)
        await tx.execute(USED, repository_id, digest)
        await tx.execute(MET, repository_id, manifest, digest)


ONE_LESS = """
UPDATE blobs SET links = links - 1 WHERE digest = $2
  AND EXISTS (SELECT 1 FROM repository_blobs WHERE repository_id = $1 AND digest = $2)
RETURNING links
"""
UNLINK = "DELETE FROM repository_blobs WHERE repository_id = $1 AND digest = $2 RETURNING size"
ALONE = "UPDATE repository_blobs SET alone = 1 WHERE digest = $1"


async def unlink(tx: Transaction, repository_id: int, registry_id: str, digest: str) -> None:
    """Ends the link; the registry's last one gives the bytes back. The caller has proven that nothing holds it."""
    size, links = await end_link(tx, repository_id, digest)
    await usage.charge_image(tx, repository_id, -size)
    if not links or await size_in_registry(tx, registry_id, digest) is None:
        await usage.charge(tx, registry_id, -size)


async def end_link(tx: Transaction, repository_id: int, digest: str) -> tuple[int, int]:
    """The row alone; usage is the caller's. Returns the blob's size, 0 without a link, and how many links it has left.

    The blob's row is locked before any link's, here as in ``link``: whoever goes the other way round waits for ever.
    """
    left = await tx.fetch(ONE_LESS, repository_id, digest)
    if not left:
        return 0, 0
    size: int = (await tx.fetch(UNLINK, repository_id, digest))[0][0]
    if left[0][0] == 1:
        await now_alone(tx, digest)
    return size, left[0][0]


async def now_alone(tx: Transaction, digest: str) -> None:
    """The blob has one link left, which learns of it."""
    await tx.execute(ALONE, digest)


USER = "SELECT manifest FROM manifest_blobs WHERE repository_id = $1 AND digest = $2 ORDER BY manifest LIMIT 1"


async def user(reader: Reader, repository_id: int, digest: str) -> str | None:
    """One manifest of this repository that references the blob, else None."""
    rows = await reader.fetch(USER, repository_id, digest)
    return rows[0][0] if rows else None
