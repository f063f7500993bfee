"""One row written again and again: that a write commits is shown by a write that commits."""

from __future__ import annotations

from regserver.model.times import now_ms
from regserver.storage.sql.port import Transaction

_TOUCH = """
INSERT INTO installation (name, value) VALUES ('ready_at', $1)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


async def touch(tx: Transaction) -> None:
    await tx.execute(_TOUCH, str(now_ms()))
