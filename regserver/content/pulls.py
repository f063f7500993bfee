"""When manifests were fetched: noted in memory, written in batches outside of every request.

A crash loses the notes of seconds. Retention, the only decision that rests on them, counts epochs and gives each age
one more than it has, which is longer than notes wait.
"""

from __future__ import annotations

from regserver.model.times import now_ms
from regserver.storage.catalog import clock, pulls
from regserver.storage.sql.port import Database, Transaction


class Pulls:
    def __init__(self) -> None:
        self._noted: dict[tuple[int, str], int] = {}  # (repository, digest) → milliseconds

    def note(self, repository_id: int, digest: str) -> None:
        self._noted[repository_id, digest] = now_ms()

    async def flush(self, db: Database) -> int:
        """Writes what was noted in one transaction; returns how many. Raises DatabaseFailed: then it stays noted."""
        batch = dict(self._noted)
        if not batch:
            return 0

        async def body(tx: Transaction) -> None:
            epoch = await clock.epoch(tx)
            for (repository_id, digest), at in sorted(batch.items()):
                await pulls.note(tx, repository_id, digest, at, epoch)

        await db.write(body)
        for place, at in batch.items():  # what was fetched again meanwhile stays noted
            if self._noted.get(place) == at:
                del self._noted[place]
        return len(batch)
