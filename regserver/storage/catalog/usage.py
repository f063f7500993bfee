"""A registry's bytes: every distinct blob that one of its repositories links, once, plus its manifests (I6); and an
image's, which are the same of that one repository."""

from __future__ import annotations

from regserver.storage.sql.port import Reader, Row, Transaction

CHARGE = "UPDATE registries SET used_bytes = used_bytes + $2 WHERE id = $1"


async def charge(tx: Transaction, registry_id: str, size: int) -> None:
    """Adds ``size`` bytes, negative to give back."""
    if size:
        await tx.execute(CHARGE, registry_id, size)


CHARGE_IMAGE = "UPDATE repositories SET size_bytes = size_bytes + $2 WHERE id = $1"


async def charge_image(tx: Transaction, repository_id: int, size: int) -> None:
    """Adds ``size`` bytes, negative to give back, to what an image holds: blobs that it links, and manifests."""
    if size:
        await tx.execute(CHARGE_IMAGE, repository_id, size)


READ = "SELECT used_bytes, quota_bytes FROM registries WHERE id = $1"


async def read(reader: Reader, registry_id: str) -> tuple[int, int | None]:
    """Bytes used, and the registry's own limit (None: the server's default)."""
    rows = await reader.fetch(READ, registry_id)
    return (rows[0][0], rows[0][1]) if rows else (0, None)


HOLD = "UPDATE registries SET used_bytes = used_bytes WHERE id = $1 RETURNING used_bytes, quota_bytes"


async def hold(tx: Transaction, registry_id: str) -> tuple[int, int | None]:
    """Like ``read``, and nobody else charges the registry before this transaction ends.

    Whoever may charge begins with it, before a link or a blob: rows are locked in this order, a registry's first.
    """
    rows = await tx.fetch(HOLD, registry_id)
    return (rows[0][0], rows[0][1]) if rows else (0, None)


CORRECT = "UPDATE registries SET used_bytes = $2 WHERE id = $1"


async def correct(tx: Transaction, registry_id: str) -> None:
    """Sets the counter to what it must equal, as this transaction sees it."""
    await tx.execute(CORRECT, registry_id, await recomputed(tx, registry_id))


RECOMPUTED = """
SELECT (SELECT COALESCE(SUM(b.size), 0) FROM blobs b
        WHERE b.digest IN (SELECT l.digest FROM repository_blobs l WHERE l.registry_id = $1))
     + (SELECT COALESCE(SUM(m.size), 0) FROM repositories r JOIN manifests m ON m.repository_id = r.id
        WHERE r.registry_id = $1)
"""


async def recomputed(reader: Reader, registry_id: str) -> int:
    """What the counter must equal, summed from scratch. Slow: for tests and scrub."""
    return int((await reader.fetch(RECOMPUTED, registry_id))[0][0])


RECOMPUTED_IMAGES = """
SELECT r.id, r.tag_count, r.size_bytes, (SELECT count(*) FROM tags t WHERE t.repository_id = r.id),
       (SELECT COALESCE(SUM(b.size), 0) FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
        WHERE l.repository_id = r.id)
     + (SELECT COALESCE(SUM(m.size), 0) FROM manifests m WHERE m.repository_id = r.id)
FROM repositories r WHERE r.registry_id = $1
"""


async def recomputed_images(reader: Reader, registry_id: str) -> list[Row]:
    """(repository, tags and bytes by its counters, tags and bytes from scratch). Slow: for tests and scrub."""
    return await reader.fetch(RECOMPUTED_IMAGES, registry_id)
