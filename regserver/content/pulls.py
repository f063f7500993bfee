"""When manifests were fetched: noted in memory, written in batches outside of every request, with an event for each.

A crash loses the notes of seconds. Retention, the only decision that rests on them, counts epochs and gives each age
one more than it has, which is longer than notes wait.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from regserver.model.audit import Actor
from regserver.model.events import EventType
from regserver.model.times import now_ms
from regserver.storage.catalog import clock, events, pulls
from regserver.storage.sql.port import Database, Transaction

TOLD = 200  # events of one batch; what was fetched besides is noted all the same
_NOBODY = Actor("")


class _Pull(NamedTuple):
    """The latest of so many fetches; ``tag`` is None where it was by digest."""

    at: int
    times: int
    tag: str | None
    actor: Actor


class Pulls:
    def __init__(self) -> None:
        self._noted: dict[tuple[int, str], _Pull] = {}  # by repository and digest
        self._flushing = asyncio.Lock()  # two at once would tell of the same pulls twice

    def note(self, repository_id: int, digest: str, *, tag: str | None = None, by: Actor = _NOBODY) -> None:
        before = self._noted.get((repository_id, digest))
        self._noted[repository_id, digest] = _Pull(now_ms(), before.times + 1 if before else 1, tag, by)

    async def flush(self, db: Database) -> int:
        """Writes what was noted in one transaction; returns how many. Raises DatabaseFailed: then it stays noted."""
        async with self._flushing:
            batch = dict(self._noted)
            if batch:
                await self._write(db, batch)
        return len(batch)

    async def _write(self, db: Database, batch: dict[tuple[int, str], _Pull]) -> None:
        async def body(tx: Transaction) -> None:
            epoch = await clock.epoch(tx)
            for number, ((repository_id, digest), pull) in enumerate(sorted(batch.items())):
                if await pulls.note(tx, repository_id, digest, pull.at, epoch) and number < TOLD:
                    await _tell(tx, repository_id, digest, pull)

        await db.write(body)
        for place, pull in batch.items():  # what was fetched again meanwhile stays noted, and is counted from there
            again = self._noted[place]
            if again is pull:
                del self._noted[place]
            else:
                self._noted[place] = again._replace(times=again.times - pull.times)


async def _tell(tx: Transaction, repository_id: int, digest: str, pull: _Pull) -> None:
    more = {"count": pull.times}
    await events.of_image(tx, EventType.PULLED, repository_id, pull.actor, reference=pull.tag, digest=digest, more=more)
