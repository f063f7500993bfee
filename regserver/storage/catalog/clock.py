"""The epoch clock: one row that advances with the monotonic clock of this boot (docs/storage-layout.md).

Every age that permits a deletion counts epochs, so a wall clock that jumps deletes nothing.
"""

from __future__ import annotations

from regserver.storage.sql.port import Reader, Transaction

EPOCH = "SELECT epoch FROM clock WHERE id = 1"


async def epoch(reader: Reader) -> int:
    """The current epoch; 0 before the clock was ever started."""
    rows = await reader.fetch(EPOCH)
    return int(rows[0][0]) if rows else 0


START = "INSERT INTO clock (id, epoch, boot_id, mono) VALUES (1, 1, $1, $2) ON CONFLICT (id) DO NOTHING"
READ = "SELECT epoch, boot_id, mono FROM clock WHERE id = 1"
MOVE = "UPDATE clock SET epoch = $1, boot_id = $2, mono = $3 WHERE id = 1 AND epoch = $4 AND boot_id = $5 AND mono = $6"


async def tick(tx: Transaction, boot_id: str, mono_ms: int, epoch_ms: int) -> None:
    """Advances by one epoch if so much monotonic time has passed. Another boot's reading only starts it anew.

    Compare-and-set on the whole row: of two processes that tick at once, one advances.
    """
    await tx.execute(START, boot_id, mono_ms)
    ((now, boot, mono),) = await tx.fetch(READ)
    if boot != boot_id or mono_ms < mono:
        await tx.execute(MOVE, now, boot_id, mono_ms, now, boot, mono)
    elif mono_ms - mono >= epoch_ms:
        await tx.execute(MOVE, now + 1, boot_id, mono_ms, now, boot, mono)
