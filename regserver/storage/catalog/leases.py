"""Leases: "it exists" and "it is stored" hold for the session that was told so, until its manifest spends them.

A lease of epoch ``e`` lives while ``e >= floor``; the caller derives ``floor`` from the current epoch and the length.
"""

from __future__ import annotations

from regserver.storage.sql.port import Reader, Row, Transaction

# shared = 1: several pushers stand behind the session, so each promise counts; else a promise held is the same promise.
TAKE_BLOB = """
INSERT INTO blob_leases (repository_id, session, digest, count, epoch) VALUES ($1, $2, $3, 1, $4)
ON CONFLICT (repository_id, session, digest) DO UPDATE
SET epoch = $4, count = CASE WHEN blob_leases.epoch < $6 THEN 1 ELSE blob_leases.count + $5 END
"""


async def take_blob(
    tx: Transaction, repository_id: int, session: str, digest: str, *, shared: bool, epoch: int, floor: int
) -> None:
    await tx.execute(TAKE_BLOB, repository_id, session, digest, epoch, int(shared), floor)


TAKE_MANIFEST = """
INSERT INTO manifest_leases (repository_id, session, digest, count, epoch) VALUES ($1, $2, $3, 1, $4)
ON CONFLICT (repository_id, session, digest) DO UPDATE
SET epoch = $4, count = CASE WHEN manifest_leases.epoch < $6 THEN 1 ELSE manifest_leases.count + $5 END
"""


async def take_manifest(
    tx: Transaction, repository_id: int, session: str, digest: str, *, shared: bool, epoch: int, floor: int
) -> None:
    await tx.execute(TAKE_MANIFEST, repository_id, session, digest, epoch, int(shared), floor)


BLOB_EPOCH = "SELECT epoch FROM blob_leases WHERE repository_id = $1 AND session = $2 AND digest = $3"
MANIFEST_EPOCH = "SELECT epoch FROM manifest_leases WHERE repository_id = $1 AND session = $2 AND digest = $3"


async def blob_epoch(reader: Reader, repository_id: int, session: str, digest: str) -> int | None:
    """The epoch in which this session's lease was taken, else None."""
    rows = await reader.fetch(BLOB_EPOCH, repository_id, session, digest)
    return rows[0][0] if rows else None


async def manifest_epoch(reader: Reader, repository_id: int, session: str, digest: str) -> int | None:
    rows = await reader.fetch(MANIFEST_EPOCH, repository_id, session, digest)
    return rows[0][0] if rows else None


LESS_BLOB = """
UPDATE blob_leases SET count = count - 1 WHERE repository_id = $1 AND session = $2 AND digest = $3 AND count > 1
"""
END_BLOB = "DELETE FROM blob_leases WHERE repository_id = $1 AND session = $2 AND digest = $3"


async def spend_blob(tx: Transaction, repository_id: int, session: str, digest: str) -> None:
    """One promise of this session is kept; a session of its own never holds more than one."""
    if await tx.execute(LESS_BLOB, repository_id, session, digest) == 0:
        await tx.execute(END_BLOB, repository_id, session, digest)


LESS_MANIFEST = """
UPDATE manifest_leases SET count = count - 1 WHERE repository_id = $1 AND session = $2 AND digest = $3 AND count > 1
"""
END_MANIFEST = "DELETE FROM manifest_leases WHERE repository_id = $1 AND session = $2 AND digest = $3"


async def spend_manifest(tx: Transaction, repository_id: int, session: str, digest: str) -> None:
    if await tx.execute(LESS_MANIFEST, repository_id, session, digest) == 0:
        await tx.execute(END_MANIFEST, repository_id, session, digest)


EXPIRED_BLOB = "DELETE FROM blob_leases WHERE epoch < $1"
EXPIRED_MANIFEST = "DELETE FROM manifest_leases WHERE epoch < $1"


async def expire(tx: Transaction, floor: int) -> int:
    """Forgets leases that no longer live."""
    return await tx.execute(EXPIRED_BLOB, floor) + await tx.execute(EXPIRED_MANIFEST, floor)


HELD = """
SELECT r.name, h.digest, h.epoch FROM repositories r JOIN blob_leases h ON h.repository_id = r.id
WHERE r.registry_id = $1 AND h.epoch >= $2
UNION ALL
SELECT r.name, h.digest, h.epoch FROM repositories r JOIN manifest_leases h ON h.repository_id = r.id
WHERE r.registry_id = $1 AND h.epoch >= $2
LIMIT $3
"""


async def held(reader: Reader, registry_id: str, floor: int, limit: int) -> list[Row]:
    """(image, digest, epoch) of a registry's living leases: for reports."""
    return await reader.fetch(HELD, registry_id, floor, limit)
