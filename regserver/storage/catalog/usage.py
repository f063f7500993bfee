"""A registry's bytes: every distinct blob that one of its repositories links, once, plus its manifests (I6)."""

from __future__ import annotations

from regserver.storage.sql.port import Reader, Transaction

CHARGE = "UPDATE registries SET used_bytes = used_bytes + $2 WHERE id = $1"


async def charge(tx: Transaction, registry_id: str, size: int) -> None:
    """Adds ``size`` bytes, negative to give back."""
    if size:
        await tx.execute(CHARGE, registry_id, size)


READ = "SELECT used_bytes, quota_bytes FROM registries WHERE id = $1"


async def read(reader: Reader, registry_id: str) -> tuple[int, int | None]:
    """Bytes used, and the registry's own limit (None: the server's default)."""
    rows = await reader.fetch(READ, registry_id)
    return (rows[0][0], rows[0][1]) if rows else (0, None)


RECOMPUTED = """
SELECT (SELECT COALESCE(SUM(b.size), 0) FROM blobs b
        WHERE b.digest IN (SELECT l.digest FROM repository_blobs l WHERE l.registry_id = $1))
     + (SELECT COALESCE(SUM(m.size), 0) FROM repositories r JOIN manifests m ON m.repository_id = r.id
        WHERE r.registry_id = $1)
"""


async def recomputed(reader: Reader, registry_id: str) -> int:
    """What the counter must equal, summed from scratch. Slow: for tests and scrub."""
    return int((await reader.fetch(RECOMPUTED, registry_id))[0][0])
