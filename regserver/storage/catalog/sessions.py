"""Sessions of the console. The cookie that opens one never comes here: only its SHA-256."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader, Transaction


class SessionRow(NamedTuple):
    """``kind`` and ``credential``: what the sign-in proved. ``expires_at`` in milliseconds."""

    kind: str
    credential: str
    expires_at: int


_BY_ID = "SELECT kind, credential, expires_at FROM console_sessions WHERE id = $1"


async def by_id(reader: Reader, digest: str) -> SessionRow | None:
    """It may have expired."""
    rows = await reader.fetch(_BY_ID, digest)
    return SessionRow(*rows[0]) if rows else None


_INSERT = "INSERT INTO console_sessions (id, kind, credential, expires_at) VALUES ($1, $2, $3, $4)"


async def insert(tx: Transaction, digest: str, row: SessionRow) -> None:
    await tx.execute(_INSERT, digest, *row)


_DELETE = "DELETE FROM console_sessions WHERE id = $1"


async def delete(tx: Transaction, digest: str) -> None:
    """From its commit on the cookie opens nothing. One that is gone is no error."""
    await tx.execute(_DELETE, digest)


_EXPIRE = "DELETE FROM console_sessions WHERE expires_at <= $1"


async def expire(tx: Transaction, now: int) -> None:
    """Forgets those that have ended."""
    await tx.execute(_EXPIRE, now)
