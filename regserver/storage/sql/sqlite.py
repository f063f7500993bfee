"""The SQLite engine: one writer thread with group commit, point reads in the loop thread, two threads for snapshots.

Write-ahead log, ``synchronous=FULL``: readers never wait for the writer; what COMMIT has accepted survives power loss.
Any number of processes may open the same file. Damage that any statement meets, or the check after the start, ends the
writing of this process: what is written on top of damage makes more of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import aiosqlite

from regserver.storage import evidence
from regserver.storage.sql.group_commit import Committed, GroupCommit
from regserver.storage.sql.port import DatabaseDamaged, DatabaseFailed, Reader, Row, Transaction
from regserver.storage.sql.statements import SQLiteTransaction, bind, damage, drive, failure, is_busy

T = TypeVar("T")
log = logging.getLogger("regserver.catalog")

SNAPSHOT_READERS = 2  # a long read leaves one for the others
BUSY_SECONDS = 10.0  # how long a write waits for another process's
LOG_PAGES = 1000  # the COMMIT that reaches them folds the log into the file (4 MB, some 10 ms)
CHECK_STEPS = 10_000  # of the engine's between two looks whether a check is still wanted
LOG_BYTES = 64 * 2**20  # what a log that a long read let grow is cut down to

# Transactions are begun in words, never by the driver; every statement of the catalog stays prepared.
_CONNECTION: dict[str, Any] = {"isolation_level": None, "cached_statements": 256}


class SQLiteDatabase:
    """A ``Database`` (see the port) in one file. Used from the event loop that opened it."""

    templates: ClassVar = {
        "{TEXT}": "TEXT",  # its default collation compares bytes
        "{BYTES}": "BLOB",
        "{ID}": "INTEGER PRIMARY KEY AUTOINCREMENT",  # an id that was deleted never comes back
        "{CLUSTERED}": "WITHOUT ROWID",
    }

    def __init__(
        self, writer: GroupCommit, points: sqlite3.Connection, snapshots: list[_Snapshots], path: Path
    ) -> None:
        self._writer = writer
        self._points = points
        self._snapshots = snapshots
        self._path = path
        self._closed = False
        self._damaged: DatabaseDamaged | None = None

    @property
    def committed(self) -> Committed:
        """Hears of every COMMIT: how many transactions, in how many seconds. Called in the writer's thread."""
        return self._writer.committed

    @committed.setter
    def committed(self, hears: Committed) -> None:
        self._writer.committed = hears

    @classmethod
    async def open(cls, path: Path, turn: Callable[[], AbstractContextManager[None]] = nullcontext) -> SQLiteDatabase:
        """Opens or creates the file, private to its owner (0600 in a new folder of 0700); migrates nothing.

        ``turn`` is around every writing transaction: for processes that all write much.
        Raises DatabaseFailed when it is no database, or where the filesystem cannot hold a write-ahead log.
        """
        try:
            _create(path)
            async with AsyncExitStack() as opened:
                writer = GroupCommit(path, lambda: _connect_writer(path), turn)
                await writer.start()  # first: readers cannot create the log
                opened.push_async_callback(writer.stop)
                points = sqlite3.connect(_read_only(path), timeout=0, uri=True, **_CONNECTION)
                opened.callback(points.close)
                snapshots = [_Snapshots(path) for _ in range(SNAPSHOT_READERS)]
                for reader in snapshots:
                    await reader.open()
                    opened.push_async_callback(reader.close)
                opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise failure(error, path) from error
        return cls(writer, points, snapshots, path)

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """In this thread, at once: a log is never locked for readers, so only its recovery is worth a thread.

        All rows are taken before it returns, as an open cursor would pin its snapshot."""
        bound = bind(args)
        try:
            rows = self._points.execute(sql, bound).fetchall()
        except sqlite3.Error as error:
            if not is_busy(error):
                raise self._noted(failure(error, self._path)) from error
        else:
            evidence.read(sql, bound, rows)
            return rows
        return await self.read(lambda reader: reader.fetch(sql, *args))

    def state(self) -> int | None:
        """A number that differs whenever anybody, in any process, has committed since (sqlite.org/pragma.html,
        data_version); None where it cannot be told now."""
        try:
            number: int = self._points.execute("PRAGMA data_version").fetchall()[0][0]
        except sqlite3.Error:
            return None
        return number

    def agrees(self, reads: Iterable[evidence.Read]) -> bool:
        """Whether each of these reads finds now what it found then."""
        try:
            return all(self._points.execute(sql, bound).fetchall() == rows for sql, bound, rows in reads)
        except sqlite3.Error:
            return False

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        self._check_open()
        evidence.once()
        reader = min(self._snapshots, key=lambda reader: reader.waiting)
        try:
            return await reader.run(body)
        except DatabaseFailed as failed:
            raise self._noted(failed) from failed.__cause__

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        self._check_open()
        evidence.once()
        if self._damaged is not None:
            raise DatabaseDamaged(str(self._damaged))
        try:
            return await self._writer.write(body)
        except DatabaseFailed as failed:
            raise self._noted(failed) from failed.__cause__

    async def check(self) -> None:
        """Looks through the whole file, beside everything else. What it finds is logged, and ends the writing."""
        found = await asyncio.to_thread(self._look_through)
        if found is not None:
            self._noted(found)

    def _look_through(self) -> DatabaseFailed | None:
        try:
            with closing(sqlite3.connect(_read_only(self._path), uri=True, **_CONNECTION)) as connection:
                connection.set_progress_handler(lambda: self._closed, CHECK_STEPS)
                ((line, *_),) = connection.execute("PRAGMA quick_check(1)")
        except sqlite3.Error as error:
            return failure(error, self._path)
        return None if line == "ok" else damage(" ".join(line.split()))

    def _noted(self, failed: DatabaseFailed) -> DatabaseFailed:
        if isinstance(failed, DatabaseDamaged) and self._damaged is None:
            self._damaged = failed
            log.critical("%s", failed)
        return failed

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[None]:
        """One transaction at a time is enough of a lock: each sees what the one before it has applied."""
        yield

    async def close(self) -> None:
        """Ends what waits, folds the log into the file, closes. Everything after it raises DatabaseFailed."""
        self._closed = True
        for reader in self._snapshots:
            await reader.close()
        self._points.close()  # readers first: the last connection to close removes the log
        await self._writer.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseFailed("the database is closed")


class _Snapshots:
    """A reading connection in a thread of aiosqlite's. A body is one hop there and back, not one per statement."""

    def __init__(self, path: Path) -> None:
        self.waiting = 0
        self._path = path
        self._driver = aiosqlite.connect(_read_only(path), timeout=BUSY_SECONDS, uri=True, **_CONNECTION)
        # Private to aiosqlite, as is _execute below: a contract test notices when they change. A process that dies
        # without close() must not hang in its exit.
        self._driver._thread.daemon = True

    async def open(self) -> None:
        _ = await self._driver

    async def close(self) -> None:
        await self._driver.close()

    async def run(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        hop: Callable[..., Awaitable[T]] = self._driver._execute
        self.waiting += 1
        try:
            return await hop(self._read, body)
        except sqlite3.Error as error:  # of BEGIN or ROLLBACK
            raise failure(error, self._path) from error
        finally:
            self.waiting -= 1

    def _read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        connection = self._driver._conn
        connection.execute("BEGIN")
        try:
            return drive(body(SQLiteTransaction(connection, self._path)))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _create(path: Path) -> None:
    """Makes the file before SQLite does, as its log and index take over its permissions."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _connect_writer(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(path, timeout=BUSY_SECONDS, **_CONNECTION)
    try:
        _configure(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    # Before the first table, and so before anything else: later it would take a VACUUM.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise DatabaseFailed("the filesystem of the catalog cannot hold a write-ahead log")
    connection.execute("PRAGMA synchronous = FULL")  # a COMMIT returns after its fsync
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
