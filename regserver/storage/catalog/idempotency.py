"""Idempotency keys: which requests were carried out under which key, and what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from regserver.storage.sql.port import Reader, Transaction


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it is given again. ``body`` holds no secret."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """``fingerprint``: of the request. ``answer`` None: carried out, and not answered yet, or never."""

    fingerprint: str
    epoch: int
    answer: Kept | None


_FIND = "SELECT fingerprint, epoch, status, headers, body FROM idempotency_keys WHERE principal = $1 AND key = $2"


async def find(reader: Reader, principal: str, key: str) -> KeyRow | None:
    rows = await reader.fetch(_FIND, principal, key)
    if not rows:
        return None
    fingerprint, epoch, status, headers, body = rows[0]
    return KeyRow(fingerprint, epoch, None if status is None else Kept(status, json.loads(headers), body))


_CLAIM = """
INSERT INTO idempotency_keys (principal, key, fingerprint, epoch)
VALUES ($1, $2, $3, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0))
ON CONFLICT (principal, key) DO NOTHING
"""


async def claim(tx: Transaction, principal: str, key: str, fingerprint: str) -> bool:
    """Marks a request as carried out, with the transaction's other effects or not at all. False: the key is taken."""
    return await tx.execute(_CLAIM, principal, key, fingerprint) == 1


_ANSWER = """
INSERT INTO idempotency_keys (principal, key, fingerprint, epoch, status, headers, body)
VALUES ($1, $2, $3, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0), $4, $5, $6)
ON CONFLICT (principal, key) DO UPDATE SET status = $4, headers = $5, body = $6
WHERE idempotency_keys.fingerprint = $3 AND idempotency_keys.status IS NULL
"""


async def answer(tx: Transaction, principal: str, key: str, fingerprint: str, kept: Kept) -> None:
    """Adds what was answered; the first answer stays."""
    headers = json.dumps(dict(kept.headers))
    await tx.execute(_ANSWER, principal, key, fingerprint, kept.status, headers, kept.body)


_OLDEST = "SELECT principal, key FROM idempotency_keys WHERE epoch < $1 ORDER BY epoch LIMIT $2"
_FORGET = "DELETE FROM idempotency_keys WHERE principal = $1 AND key = $2"


async def expire(tx: Transaction, before_epoch: int, limit: int) -> int:
    """Forgets keys past their age, so many at most; returns how many went."""
    old = await tx.fetch(_OLDEST, before_epoch, limit)
    return sum([await tx.execute(_FORGET, principal, key) for principal, key in old])
