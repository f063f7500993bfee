"""The feed: events as followers get them, each after its COMMIT, in the order of the commits, with none left out.

A follower's place is an id, which it keeps itself; the events are in the catalog. So nothing is remembered here that a
crash could take: who comes again names its place and goes on, at whichever process. That something was committed is
found out by asking the catalog for its last id, several times a second while anybody follows; a commit of this very
process only saves the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from regserver.content.core import Core
from regserver.content.waiting import set_within
from regserver.counting import Cache
from regserver.errors import ErrorCode, RegistryError
from regserver.model.times import rfc3339
from regserver.storage.catalog import events
from regserver.storage.catalog.events import EventRow
from regserver.storage.sql.port import Database, DatabaseFailed, Reader, Row, Transaction

log = logging.getLogger("regserver.events")

T = TypeVar("T")

POLL_SECONDS = 0.25  # between two looks into the catalog while somebody follows
GAP_SECONDS = 0.03  # at least, between two looks, however much is committed here
NOTES_SECONDS = 2.0  # between two batches of what is only noted
RECENT = 1000  # events kept in memory, for all who are nearly up to date
PAGE = 200


class Told:
    """A Database that says when this process has committed something. Nothing hangs on its being heard."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.committed: Callable[[], None] = lambda: None

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return await self._database.fetch(sql, *args)

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        return await self._database.read(body)

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        result = await self._database.write(body)
        self.committed()
        return result

    async def close(self) -> None:
        await self._database.close()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events. ``visible``: ids of registries. None chooses all."""

    types: frozenset[str] | None = None
    registry_id: str | None = None
    registry: str | None = None
    visible: frozenset[str] | None = None

    def takes(self, row: EventRow) -> bool:
        return (
            (self.types is None or row.type in self.types)
            and self.registry_id in (None, row.registry_id)
            and self.registry in (None, row.registry)
            and (self.visible is None or row.registry_id in self.visible)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What follows a place, up to ``place``. ``lost``: events before it are kept no more, or never were here."""

    rows: list[EventRow]
    place: int
    lost: bool = False


class Feed:
    """Used from one loop; ``run`` is background work."""

    def __init__(self, core: Core, told: Told | None = None) -> None:
        self._core = core
        self._followers = 0
        self._starting = asyncio.Lock()
        self._watching = False  # somebody follows, and the last id is a recent one
        self._last = 0
        self._floor = 0  # whatever was committed after this id, up to the last one, is in the recent ones
        self._recent: deque[EventRow] = deque()
        self._news = asyncio.Event()
        self._look_now = asyncio.Event()
        if told is not None:
            told.committed = self._committed

    @property
    def last(self) -> int:
        """The newest id, as far as this process has looked."""
        return self._last

    async def latest(self, count: int) -> Page:
        """At most so many of the newest events, whoever may see them, up to the newest id. Raises DatabaseFailed."""

        async def body(reader: Reader) -> Page:
            last = await events.last(reader)
            return Page(await events.after(reader, max(0, last - count), count), last)

        return await self._core.db.read(body)

    @property
    def followers(self) -> int:
        return self._followers

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """While somebody follows. Raises RegistryError TOO_MANY_REQUESTS where too many do already."""
        if self._followers >= self._core.settings.event_streams:
            message = "too many follow the events of this server already"
            raise RegistryError(ErrorCode.TOO_MANY_REQUESTS, message=message, headers={"Retry-After": "10"})
        self._followers += 1
        try:
            async with self._starting:
                if not self._watching:
                    await self._start()
            yield
        finally:
            self._followers -= 1
            self._watching = self._watching and self._followers > 0

    async def after(self, place: int) -> Page:
        """The next events after a place, whoever may see them. Raises DatabaseFailed."""
        recent = self._floor <= place <= self._last
        self._core.numbers.cached(Cache.EVENTS, hit=recent)
        if recent:
            rows = [row for row in self._recent if row.id > place][:PAGE]
            return Page(rows, rows[-1].id if rows else place)

        async def body(reader: Reader) -> tuple[int, int, list[EventRow]]:
            return (
                await events.oldest(reader),
                await events.last(reader),
                await events.after(reader, place, PAGE),
            )

        oldest, last, rows = await self._core.db.read(body)
        if place > last:  # of a catalog that was restored from a backup, or of another server
            return Page([], last, lost=True)
        return Page(rows, rows[-1].id if rows else place, lost=0 < place < oldest - 1)

    async def news(self, place: int, seconds: float) -> bool:
        """Whether anything follows a place, after waiting so long for it."""
        return self._last > place or await set_within(self._news, seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``. A catalog that fails is asked again later."""
        notes_at = time.monotonic() + NOTES_SECONDS
        while not stop.is_set():
            try:
                if self._watching:
                    await self._look()
                if time.monotonic() >= notes_at:
                    notes_at = time.monotonic() + NOTES_SECONDS
                    await self._flush()
            except DatabaseFailed as failed:
                log.warning("events go on later: %s", failed)
                await set_within(stop, NOTES_SECONDS)
            await self._pause(stop)
        with contextlib.suppress(DatabaseFailed):
            await self._core.notes.flush(self._core.db)

    async def _pause(self, stop: asyncio.Event) -> None:
        if not self._watching:
            await set_within(stop, POLL_SECONDS)
            return
        await set_within(stop, GAP_SECONDS)
        await set_within(self._look_now, POLL_SECONDS)
        self._look_now.clear()

    async def _start(self) -> None:
        """Nobody has looked for a while: what happened meanwhile is read by who asks for it."""
        self._recent.clear()
        self._last = self._floor = await events.last(self._core.db)
        self._watching = True

    async def _look(self) -> None:
        while rows := await events.after(self._core.db, self._last, PAGE):
            for row in rows:
                if row.id > self._last:  # another look may have been faster
                    self._recent.append(row)
                    self._last = row.id
            while len(self._recent) > RECENT:
                self._floor = self._recent.popleft().id
            news, self._news = self._news, asyncio.Event()
            news.set()
            if len(rows) < PAGE:
                return
            await asyncio.sleep(0)

    async def _flush(self) -> None:
        await self._core.notes.flush(self._core.db)
        if self._followers:  # else housekeeping does, in its own time
            await self._core.pulls.flush(self._core.db)

    def _committed(self) -> None:
        if self._followers:
            self._look_now.set()


def shown(row: EventRow) -> dict[str, Any]:
    """An event as the API shows it: the fields of all, then those of its type."""
    fields = {**row._asdict(), "at": rfc3339(row.at)}
    more = fields.pop("more")
    return fields | (json.loads(more) if more else {})
