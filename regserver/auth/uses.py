"""When credentials were last used: noted in memory by the request, written by housekeeping.

A crash loses what is not written yet, seconds of it as a rule, and nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from regserver.model.times import now_ms
from regserver.storage.sql.port import Database, Transaction

WRITE_EVERY_MS = 60_000  # how often the last use of one credential is written, at most

Write = Callable[[Transaction, str, int], Awaitable[None]]  # (transaction, the credential's id, milliseconds)


class Uses:
    """``clock``: milliseconds since 1970."""

    def __init__(self, db: Database, write: Write, clock: Callable[[], int] = now_ms) -> None:
        self._db = db
        self._write = write
        self._clock = clock
        self._noted: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def note(self, credential: str) -> None:
        self._noted[credential] = self._clock()

    async def flush(self, *, final: bool = False) -> None:
        """Writes what was noted in one transaction, each credential's once a minute, or all that is left if ``final``.

        Raises DatabaseFailed; then all of it is written the next time."""
        now = self._clock()
        recent = {} if final else {key: at for key, at in self._written.items() if now - at < WRITE_EVERY_MS}
        batch = {key: at for key, at in self._noted.items() if key not in recent}
        self._written = recent
        if not batch:
            return

        async def body(tx: Transaction) -> None:
            for credential, at in sorted(batch.items()):
                await self._write(tx, credential, at)

        await self._db.write(body)
        self._written = {**recent, **dict.fromkeys(batch, now)}
        self._noted = {key: at for key, at in self._noted.items() if at != batch.get(key)}
