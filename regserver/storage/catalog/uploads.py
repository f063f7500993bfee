"""Upload sessions: each registers the key of its staged file before the first byte is written."""

from __future__ import annotations

from typing import NamedTuple

from regserver.model.access import Target
from regserver.model.digest import Algorithm, Digest
from regserver.storage.sql.port import Reader, Row, Transaction


class UploadRow(NamedTuple):
    key: str
    algorithm: Algorithm
    epoch: int


INSERT = "INSERT INTO uploads (id, key, repository_id, subject, algorithm, epoch) VALUES ($1, $2, $3, $4, $5, $6)"


async def insert(
    tx: Transaction, upload_id: str, key: str, repository_id: int, subject: str, algorithm: Algorithm, epoch: int
) -> None:
    await tx.execute(INSERT, upload_id, key, repository_id, subject, str(algorithm), epoch)


FIND = """
SELECT u.key, u.algorithm, u.epoch FROM uploads u JOIN repositories r ON r.id = u.repository_id
WHERE u.id = $1 AND r.registry_id = $2 AND r.name = $3 AND u.subject = $4
"""


async def find(reader: Reader, upload_id: str, target: Target, subject: str) -> UploadRow | None:
    """The session, for the repository and the subject that began it only (CVE-2026-32589)."""
    rows = await reader.fetch(FIND, upload_id, target.registry_id, target.name.image, subject)
    return UploadRow(rows[0][0], Algorithm(rows[0][1]), rows[0][2]) if rows else None


TOUCH = "UPDATE uploads SET epoch = $2 WHERE id = $1"


async def touch(tx: Transaction, upload_id: str, epoch: int) -> None:
    """The session was continued: its expiry counts from this epoch."""
    await tx.execute(TOUCH, upload_id, epoch)


TAKE = "DELETE FROM uploads WHERE id = $1 AND key = $2 RETURNING key"


async def take(tx: Transaction, upload_id: str, key: str) -> bool:
    """Lemma L2, the fence: the first statement of whoever ends a session. False: somebody ended it before."""
    return bool(await tx.fetch(TAKE, upload_id, key))


EXPIRED = "SELECT id, key FROM uploads WHERE epoch < $1 ORDER BY epoch LIMIT $2"


async def expired(reader: Reader, before_epoch: int, limit: int) -> list[Row]:
    """(id, key) of sessions that nobody continued since."""
    return await reader.fetch(EXPIRED, before_epoch, limit)


TRASH_NAMELESS = """
INSERT INTO trash (key, digest) SELECT $1, $2 FROM clock
WHERE id = 1 AND NOT EXISTS (SELECT 1 FROM blobs WHERE key = $1) AND NOT EXISTS (SELECT 1 FROM uploads WHERE key = $1)
ON CONFLICT (key) DO NOTHING
"""


async def trash_nameless(tx: Transaction, key: str, digest: Digest) -> None:
    """After a refused finalise: names the file it has renamed, unless a twin's commit made the key a blob.

    A key that stands in neither table never comes back to one, so what this statement sees stays true.
    """
    await tx.execute(TRASH_NAMELESS, key, str(digest))
