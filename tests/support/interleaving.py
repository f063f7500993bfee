"""Two clients of one catalog, each on connections of its own, met at a chosen statement of the first one."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg

from regserver.errors import RegistryError
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.port import Row, Transaction
from support.databases import MIGRATED_ENGINES, Engine, PostgresEngine, SQLiteEngine, Wrapped
from support.memory_blobs import Files, MemoryBlobStore
from support.postgres import EMPTY_SHARED
from support.store import Store, opened_store

T = TypeVar("T")
Step = Callable[[Store], Awaitable[Any]]

SETTINGS = {"lease_seconds": 120, "untagged_seconds": 0, "undo_seconds": 0}
NEVER = 10**9
WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'regserver' AND wait_event_type = 'Lock'"


class Onlooker(Protocol):
    """Somebody outside of both clients."""

    async def is_waiting(self) -> bool:
        """Whether one waits for the other. Asked while the first is inside a transaction and the second wants one."""

    async def empty(self) -> None:
        """Deletes every row."""

    async def close(self) -> None: ...


class SQLiteOnlooker:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def is_waiting(self) -> bool:
        return True  # there is one writer

    async def empty(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as catalog:  # checks no foreign key
            names = {row[0] for row in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for name in names - {"schema_migrations", "sqlite_sequence"}:
                catalog.execute(f"DELETE FROM {name}")

    async def close(self) -> None: ...


class PostgresOnlooker:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def is_waiting(self) -> bool:
        return bool(await self._connection.fetch(WAITING))

    async def empty(self) -> None:
        await self._connection.execute(EMPTY_SHARED)

    async def close(self) -> None:
        await self._connection.close()


async def onlooker(engine: Engine) -> Onlooker:
    if isinstance(engine, PostgresEngine):
        return PostgresOnlooker(await asyncpg.connect(engine.url))
    assert isinstance(engine, SQLiteEngine)
    return SQLiteOnlooker(engine.path)


class Pausing(Wrapped):
    """A database whose writes stop once, behind their statement number ``at``, until they may go on."""

    def __init__(self, database: Migratable, engine: Engine) -> None:
        super().__init__(database)
        self._engine = engine
        self.begin(NEVER)

    def begin(self, at: int) -> None:
        self.at, self.count = at, 0
        self.reached, self.go_on = self._engine.signal(), self._engine.signal()

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._database.write(lambda tx: body(_Counted(tx, self)))

    async def counted(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.reached.set()
            await self.go_on.wait()


class _Counted:
    def __init__(self, tx: Transaction, pausing: Pausing) -> None:
        self._tx = tx
        self._pausing = pausing

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        rows = await self._tx.fetch(sql, *args)
        await self._pausing.counted()
        return rows

    async def execute(self, sql: str, *args: Any) -> int:
        changed = await self._tx.execute(sql, *args)
        await self._pausing.counted()
        return changed

    async def at_commit(self, sql: str, *args: Any) -> None:
        await self._tx.at_commit(sql, *args)
        await self._pausing.counted()


class Two:
    """Two stores over one catalog and the same files."""

    def __init__(self, first: Store, second: Store, files: Files, pausing: Pausing, onlooker: Onlooker) -> None:
        self.first = first
        self.second = second
        self.files = files
        self._pausing = pausing
        self._onlooker = onlooker

    async def start_over(self) -> None:
        """An empty catalog with its registries and its clock, and no files."""
        await self._onlooker.empty()
        self.files.staged.clear()
        self.files.published.clear()
        self.second.now = 0
        await self.second.pass_epochs(0)
        for name in ("my", "other"):
            await self.second.registry(name)

    async def count(self, step: Step) -> int:
        """How many statements a step has when nobody is in its way."""
        self._pausing.begin(NEVER)
        await _outcome(step(self.first))
        return self._pausing.count

    async def meet(self, one: Step, other: Step, at: int) -> tuple[Any, Any]:
        """Runs one step up to its statement number ``at``, then the other one as far as it gets, then both to their
        ends. Returns what they returned or were refused with."""
        self._pausing.begin(at)
        self.first.now = self.second.now
        first = asyncio.create_task(_outcome(one(self.first)))
        await self._pausing.reached.wait()
        second = asyncio.create_task(_outcome(other(self.second)))
        await asyncio.sleep(0)
        while not second.done() and not await self._onlooker.is_waiting():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        self._pausing.go_on.set()
        return await first, await second


async def _outcome(step: Awaitable[Any]) -> Any:
    try:
        return await step
    except RegistryError as refused:
        return refused


@asynccontextmanager
async def opened_twice(name: str, folder: Path) -> AsyncIterator[Two]:
    """Two stores on a catalog of the engine of that name."""
    engine, files = MIGRATED_ENGINES[name](folder), Files()
    pausings: list[Pausing] = []

    async def pausing() -> Migratable:
        pausings.append(Pausing(await engine.open(), engine))
        return pausings[0]

    async with (
        opened_store(folder, MemoryBlobStore(files), open_database=pausing, **SETTINGS) as first,
        opened_store(folder, MemoryBlobStore(files), open_database=engine.open, **SETTINGS) as second,
    ):
        looker = await onlooker(engine)
        try:
            yield Two(first, second, files, pausings[0], looker)
        finally:
            await looker.close()
