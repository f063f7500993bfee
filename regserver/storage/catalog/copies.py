"""What a backup reads of a copied catalog, and what it takes out of the copy: whatever stands for files that the
backup does not hold."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader, Transaction


class BlobRow(NamedTuple):
    digest: str
    size: int  # bytes
    key: str


_BLOBS = "SELECT digest, size, key FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2"


async def blobs(reader: Reader, after: str, limit: int) -> list[BlobRow]:
    """In the order of their digests, from the one behind ``after`` on."""
    return [BlobRow(*row) for row in await reader.fetch(_BLOBS, after, limit)]


_BLOB = "SELECT digest, size, key FROM blobs WHERE digest = $1"


async def blob(reader: Reader, digest: str) -> BlobRow | None:
    rows = await reader.fetch(_BLOB, digest)
    return BlobRow(*rows[0]) if rows else None


_MANIFESTS = """
SELECT repository_id, digest, content FROM manifests WHERE (repository_id, digest) > ($1, $2)
ORDER BY repository_id, digest LIMIT $3
"""


async def manifests(reader: Reader, after: tuple[int, str], limit: int) -> list[tuple[int, str, bytes]]:
    """(repository, digest, bytes), in that order."""
    rows = await reader.fetch(_MANIFESTS, after[0], after[1], limit)
    return [(row[0], row[1], bytes(row[2])) for row in rows]


_NO_UPLOADS = "DELETE FROM uploads"
_NO_TRASH = "DELETE FROM trash"
_NO_HOLDS = "DELETE FROM trash_holds"


async def forget_files(tx: Transaction) -> None:
    """Upload sessions, trash and holds: their files stay behind, and the keys never come back. Blobs stay."""
    await tx.execute(_NO_UPLOADS)
    await tx.execute(_NO_TRASH)
    await tx.execute(_NO_HOLDS)
