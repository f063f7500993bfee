"""Engines under the Database contract, each as a small factory, and tables to try them on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from regserver.storage.sql.migrate import Migratable, statements
from regserver.storage.sql.port import Reader, Row, Transaction
from regserver.storage.sql.postgres import PostgresDatabase
from regserver.storage.sql.sqlite import SQLiteDatabase
from support import postgres

T = TypeVar("T")

NOTES = """
CREATE TABLE notes (id BIGINT PRIMARY KEY, text {TEXT} UNIQUE, data {BYTES});
CREATE TABLE remarks (id {ID}, note BIGINT NOT NULL REFERENCES notes (id));
CREATE TABLE promises (note BIGINT NOT NULL REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED);
"""
ADD = "INSERT INTO notes (id, text) VALUES ($1, $2)"
ALL = "SELECT id, text FROM notes ORDER BY id"


class Signal(Protocol):
    """Something that has happened, told between a body and the loop: ``asyncio.Event`` where bodies run there."""

    def set(self) -> None: ...

    async def wait(self) -> object: ...


class ThreadSignal:
    """For bodies that run in a thread and may not suspend: there it waits without awaiting, elsewhere in a thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    async def wait(self) -> object:
        if threading.current_thread() is not threading.main_thread():
            return self._event.wait(60)
        return await asyncio.to_thread(self._event.wait, 60)


class Engine(Protocol):
    """A database that may be opened many times, also by ``code`` in another process: it defines ``open()``."""

    code: str

    async def open(self) -> Migratable: ...

    def signal(self) -> Signal: ...


class SQLiteEngine:
    """Databases on one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "catalog" / "catalog.db"
        self.code = f"""
import pathlib
from regserver.storage.sql.sqlite import SQLiteDatabase
def open(): return SQLiteDatabase.open(pathlib.Path({str(self.path)!r}))
"""

    async def open(self) -> SQLiteDatabase:
        return await SQLiteDatabase.open(self.path)

    def signal(self) -> Signal:
        return ThreadSignal()


class PostgresEngine:
    """Databases in one schema of the test run's server."""

    def __init__(self, _: Path, url: str | None = None) -> None:
        self.url = url or postgres.server().new_schema()
        self.code = f"""
from regserver.storage.sql.postgres import PostgresDatabase
def open(): return PostgresDatabase.open({self.url!r})
"""

    async def open(self) -> PostgresDatabase:
        return await PostgresDatabase.open(self.url)

    def signal(self) -> Signal:
        return asyncio.Event()


def emptied_postgres(folder: Path) -> PostgresEngine:
    """On the one catalog that is migrated already: whoever had it before has lost its rows."""
    return PostgresEngine(folder, postgres.server().emptied_catalog())


ENGINES: dict[str, Callable[[Path], Engine]] = {"sqlite": SQLiteEngine, "postgres": PostgresEngine}


MIGRATED_ENGINES: dict[str, Callable[[Path], Engine]] = {"sqlite": SQLiteEngine, "postgres": emptied_postgres}


class Wrapped:
    """A database through which everything goes to another one."""

    def __init__(self, database: Migratable) -> None:
        self._database = database

    @property
    def templates(self) -> Mapping[str, str]:
        return self._database.templates

    def migrating(self) -> AbstractAsyncContextManager[None]:
        return self._database.migrating()

    async def check(self) -> None:
        await self._database.check()

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return await self._database.fetch(sql, *args)

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        return await self._database.read(body)

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._database.write(body)

    async def close(self) -> None:
        await self._database.close()


class Repeating(Wrapped):
    """Runs every body that is not refused a second time, as an engine may, after the first has been undone."""

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        async def once(tx: Transaction) -> None:
            await body(tx)
            raise _Undone

        with suppress(_Undone):
            await self._database.write(once)
        return await self._database.write(body)


class _Undone(Exception):
    pass


async def make_notes(database: Migratable) -> None:
    async def body(tx: Transaction) -> None:
        for statement in statements(NOTES, database.templates):
            await tx.execute(statement)

    await database.write(body)


def adding(number: int, text: str | None = None, *, then: Exception | None = None) -> Callable[[Transaction], Any]:
    """A body that adds a note and returns its number, or raises ``then`` after it."""

    async def body(tx: Transaction) -> int:
        await tx.execute(ADD, number, text)
        if then is not None:
            raise then
        return number

    return body


async def pragma(database: SQLiteDatabase, name: str) -> Any:
    """A setting of the writing connection."""
    [(value,)] = await database.write(lambda tx: tx.fetch(f"PRAGMA {name}"))
    return value


async def settle(writes: list[asyncio.Task[Any]]) -> list[Any]:
    """Results and exceptions in order."""
    return await asyncio.gather(*writes, return_exceptions=True)


@asynccontextmanager
async def one_group(
    database: SQLiteDatabase, *bodies: Callable[[Transaction], Awaitable[Any]]
) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Writes that certainly wait together: they are enqueued while the writer is held, and go on after the block."""
    entered, leave = threading.Event(), threading.Event()

    async def hold(tx: Transaction) -> None:
        entered.set()
        leave.wait(60)

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(entered.wait, 60)
    writes = [asyncio.create_task(database.write(body)) for body in bodies]
    await asyncio.sleep(0)
    try:
        yield writes
    finally:
        leave.set()
        await holding


@contextmanager
def watched(database: SQLiteDatabase) -> Iterator[list[str]]:
    """Every statement the writing connection runs, as SQLite traces it; set up and taken off in its own thread."""
    seen: list[str] = []
    connection = database._writer._connection
    database._writer._connection = _Traced(connection, seen)  # type: ignore[assignment]
    try:
        yield seen
    finally:
        database._writer._connection = connection


class _Traced:
    """A connection that notes what passes through it."""

    def __init__(self, connection: Any, seen: list[str]) -> None:
        self._connection = connection
        self._seen = seen

    def execute(self, sql: str, *args: Any) -> Any:
        self._seen.append(sql)
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
