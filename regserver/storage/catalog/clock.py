"""The epoch clock: one row that advances with the monotonic clocks of those who serve (docs/storage-layout.md).

Every age that permits a deletion counts epochs, so a wall clock that jumps deletes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regserver.storage.sql.port import Reader, Transaction

EPOCH = "SELECT epoch FROM clock WHERE id = 1"


async def epoch(reader: Reader) -> int:
    """The current epoch; 0 before the clock was ever started."""
    rows = await reader.fetch(EPOCH)
    return int(rows[0][0]) if rows else 0


@dataclass(frozen=True, slots=True)
class Hand:
    """One process's clock. ``read``: milliseconds of the monotonic clock that all of ``boot`` share.

    ``seen``: an epoch that this process found committed, and its reading after that; None before it has found any.
    """

    boot: str
    read: Callable[[], int]
    seen: tuple[int, int] | None = None


START = "INSERT INTO clock (id, epoch, boot_id, mono) VALUES (1, 1, $1, $2) ON CONFLICT (id) DO NOTHING"
READ = "SELECT epoch, boot_id, mono FROM clock WHERE id = 1"
MOVE = "UPDATE clock SET epoch = $1, boot_id = $2, mono = $3 WHERE id = 1 AND epoch = $4 AND boot_id = $5 AND mono = $6"


async def tick(tx: Transaction, hand: Hand, epoch_ms: int) -> int:
    """Advances by one epoch if one process has seen this one last so long (L18). Returns the epoch as it is then.

    Nobody but who advances it writes the row, so processes that share it, on however many machines, put nothing off for
    each other. Compare-and-set on the whole row: of two that would advance it at once, one does.
    """
    await tx.execute(START, hand.boot, hand.read())
    ((now, boot, mono),) = await tx.fetch(READ)
    reading = hand.read()  # in the transaction: one that waited for its turn has not aged meanwhile
    begun = [mono] if boot == hand.boot else []  # readings at which this epoch had begun already
    if hand.seen is not None and hand.seen[0] == now:
        begun.append(hand.seen[1])
    if not any(reading - at >= epoch_ms for at in begun):
        return int(now)
    await tx.execute(MOVE, now + 1, hand.boot, reading, now, boot, mono)
    return int(now) + 1
