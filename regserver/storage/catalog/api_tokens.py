"""Tokens of the management API. What is secret of them never comes here: only its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass

from regserver.model.access import Permit
from regserver.storage.sql.port import Reader, Row, Transaction


@dataclass(frozen=True, slots=True)
class ApiTokenRow:
    """Times in milliseconds. ``expires_at`` None is never, ``last_used_at`` None not yet, as far as was written."""

    id: str
    name: str
    permit: Permit
    expires_at: int | None
    created_at: int
    last_used_at: int | None = None

    @property
    def updated_at(self) -> int:
        """A token stays as it was made."""
        return self.created_at


def _row(values: Row) -> ApiTokenRow:
    identity, name, scopes, *times = values
    return ApiTokenRow(identity, name, Permit.of(scopes.split(",")), *times)


_BY_HASH = "SELECT id, name, scopes, expires_at, created_at, last_used_at FROM api_tokens WHERE hash = $1"


async def by_hash(reader: Reader, digest: str) -> ApiTokenRow | None:
    """The token of that SHA-256; it may have expired."""
    rows = await reader.fetch(_BY_HASH, digest)
    return _row(rows[0]) if rows else None


_BY_ID = "SELECT id, name, scopes, expires_at, created_at, last_used_at FROM api_tokens WHERE id = $1"


async def by_id(reader: Reader, token_id: str) -> ApiTokenRow | None:
    rows = await reader.fetch(_BY_ID, token_id)
    return _row(rows[0]) if rows else None


_COUNT = "SELECT count(*) FROM api_tokens"
_PAGE = """
SELECT id, name, scopes, expires_at, created_at, last_used_at FROM api_tokens ORDER BY id LIMIT $1 OFFSET $2
"""


async def page(reader: Reader, limit: int, offset: int) -> tuple[list[ApiTokenRow], int]:
    """One page, the oldest first, and how many there are on all pages; the reader is one snapshot."""
    rows = await reader.fetch(_PAGE, limit, offset)
    return [_row(row) for row in rows], (await reader.fetch(_COUNT))[0][0]


_INSERT = """
INSERT INTO api_tokens (id, name, scopes, hash, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def insert(tx: Transaction, row: ApiTokenRow, digest: str) -> None:
    scopes = ",".join(row.permit.scopes)
    await tx.execute(_INSERT, row.id, row.name, scopes, digest, row.expires_at, row.created_at)


_DELETE = "DELETE FROM api_tokens WHERE id = $1"


async def delete(tx: Transaction, token_id: str) -> bool:
    """False: there was none. From its commit on the token opens nothing."""
    return await tx.execute(_DELETE, token_id) == 1


_USED = "UPDATE api_tokens SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2"


async def used(tx: Transaction, token_id: str, at: int) -> None:
    """Moves forward only; a token that is gone by now stays gone."""
    await tx.execute(_USED, token_id, at)
