"""The one writer of the SQLite engine: who shares a commit, and who is answered what when something fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.storage.sql import group_commit, sqlite
from regserver.storage.sql.port import DatabaseFailed, IntegrityFailed, Transaction
from regserver.storage.sql.sqlite import SQLiteDatabase
from regserver.storage.sql.statements import BodySuspended
from support.databases import ADD, ALL, SQLiteEngine, adding, make_notes, one_group, pragma, settle, watched

COUNT = "SELECT COUNT(*) FROM notes"


@pytest.fixture
def engine(tmp_path: Path) -> SQLiteEngine:
    return SQLiteEngine(tmp_path)


@pytest.fixture
async def database(engine: SQLiteEngine) -> AsyncIterator[SQLiteDatabase]:
    database = await engine.open()
    await make_notes(database)
    yield database
    await database.close()


async def test_transactions_that_wait_together_share_one_commit(database: SQLiteDatabase) -> None:
    with watched(database) as statements:
        async with one_group(database, *(adding(number) for number in range(20))) as writes:
            statements.clear()
        assert await settle(writes) == list(range(20))
    assert statements.count("COMMIT") == 2  # the one that held the writer, and the group's
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert statements.count("SAVEPOINT member") == 20
    assert statements.count("RELEASE member") == 21  # each before the next begins: savepoints do not pile up


async def test_a_group_has_a_limit(database: SQLiteDatabase) -> None:
    with watched(database) as statements:
        async with one_group(database, *(adding(number) for number in range(group_commit.GROUP_LIMIT + 1))) as writes:
            statements.clear()
        await settle(writes)
    assert statements.count("BEGIN IMMEDIATE") == 2


async def test_an_exception_takes_back_its_own_transaction_and_no_other(database: SQLiteDatabase) -> None:
    refusal = RegistryError(ErrorCode.DENIED)
    bodies = adding(1), adding(2, then=refusal), adding(1, "twice"), adding(3)
    async with one_group(database, *bodies) as writes:
        pass
    first, second, third, fourth = await settle(writes)
    assert (first, second, fourth) == (1, refusal, 3)
    assert isinstance(third, IntegrityFailed)
    assert await database.fetch(ALL) == [(1, None), (3, None)]


async def test_nobody_is_answered_before_the_commit(database: SQLiteDatabase) -> None:
    """The last member's promise fails the COMMIT of all, so neither a result nor a refusal of a neighbour counts."""
    bodies = adding(1), adding(1, "twice"), lambda tx: tx.execute("INSERT INTO promises (note) VALUES (404)")
    async with one_group(database, *bodies) as writes:
        pass
    outcomes = await settle(writes)
    assert [type(outcome) for outcome in outcomes] == [IntegrityFailed] * 3
    assert all("FOREIGN KEY" in str(outcome) for outcome in outcomes)
    assert await database.fetch(ALL) == []
    assert await database.write(adding(2)) == 2


class FailingConnection:
    """A connection whose COMMIT meets a disk that fails."""

    def __init__(self, connection: Any, error: sqlite3.Error) -> None:
        self._connection = connection
        self._error = error

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT":
            raise self._error
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def disk_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(("code", "full"), [(sqlite3.SQLITE_IOERR_FSYNC, False), (sqlite3.SQLITE_FULL, True)])
async def test_an_fsync_that_fails_fails_everybody(database: SQLiteDatabase, code: int, full: bool) -> None:
    writer = database._writer
    connection = writer._connection
    writer._connection = FailingConnection(connection, disk_error(code))  # type: ignore[assignment]
    outcomes = await asyncio.gather(*(database.write(adding(n)) for n in range(5)), return_exceptions=True)
    writer._connection = connection
    assert [(type(outcome), outcome.full) for outcome in outcomes] == [(DatabaseFailed, full)] * 5
    assert len({id(outcome) for outcome in outcomes}) == 5
    assert await database.fetch(COUNT) == [(0,)]
    assert await database.write(adding(9)) == 9


async def test_a_full_disk_fails_the_one_that_met_it_and_keeps_the_rest_whole(database: SQLiteDatabase) -> None:
    async def add_much(tx: Transaction) -> int:
        await tx.execute(ADD, 2, "half")
        return await tx.execute("INSERT INTO notes (id, data) VALUES (3, $1)", bytes(2**20))

    pages = await pragma(database, "page_count")
    await pragma(database, f"max_page_count = {pages + 8}")
    runs: list[int] = []

    async def add_first(tx: Transaction) -> int:
        runs.append(1)
        return await tx.execute(ADD, 1, "first")

    async with one_group(database, add_first, add_much, adding(4, "last")) as writes:
        pass
    first, much, last = await settle(writes)
    assert (first, last) == (1, 4)
    assert isinstance(much, DatabaseFailed)
    assert much.full
    assert await database.fetch(ALL) == [(1, "first"), (4, "last")]
    assert len(runs) == 2  # SQLITE_FULL took it back with everything else, so it ran again


async def test_no_statement_of_a_body_runs_after_the_engine_ended_its_transaction(database: SQLiteDatabase) -> None:
    async def body(tx: Transaction) -> None:
        for data in (bytes(2**20), b"small"):
            with pytest.raises(DatabaseFailed):
                await tx.execute("INSERT INTO notes (id, data) VALUES (1, $1)", data)

    await pragma(database, f"max_page_count = {await pragma(database, 'page_count') + 8}")
    with pytest.raises(DatabaseFailed):
        await database.write(body)
    assert await database.fetch(COUNT) == [(0,)]


async def test_a_body_that_awaits_something_else_is_refused(database: SQLiteDatabase) -> None:
    cleaned: list[int] = []

    async def body(tx: Transaction) -> None:
        try:
            await tx.execute(ADD, 1, "lost")
            await asyncio.sleep(0)
        finally:
            cleaned.append(1)

    async with one_group(database, adding(0), body, adding(2)) as writes:
        pass
    first, suspended, last = await settle(writes)
    assert (first, last) == (0, 2)
    assert isinstance(suspended, BodySuspended)
    assert cleaned == [1]
    assert await database.fetch(ALL) == [(0, None), (2, None)]
    with pytest.raises(BodySuspended):
        await database.read(lambda reader: asyncio.sleep(0))


async def test_a_cancelled_waiter_does_not_stop_the_writer(database: SQLiteDatabase) -> None:
    async with one_group(database, adding(1), adding(2), adding(3)) as writes:
        writes[1].cancel()
        await asyncio.sleep(0)
    first, cancelled, last = await settle(writes)
    assert (first, last) == (1, 3)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert await database.write(adding(4)) == 4


async def test_a_waiter_cancelled_while_its_group_runs_keeps_no_answer_from_the_others(
    database: SQLiteDatabase,
) -> None:
    entered, leave = threading.Event(), threading.Event()

    async def first(tx: Transaction) -> int:
        entered.set()
        leave.wait(60)
        return await tx.execute(ADD, 1, None)

    async with one_group(database, first, adding(2), adding(3)) as writes:
        pass
    await asyncio.to_thread(entered.wait, 60)
    writes[1].cancel()
    leave.set()
    async with asyncio.timeout(60):
        outcomes = await settle(writes)
    assert [outcomes[0], outcomes[2]] == [1, 3]
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert await database.write(adding(4)) == 4


async def test_a_body_that_ends_its_thread_ends_only_itself(database: SQLiteDatabase) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(ADD, 1, None)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await database.write(body)
    assert await database.write(adding(2)) == 2
    assert await database.fetch(COUNT) == [(1,)]


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)


@pytest.fixture
def other_writer(database: SQLiteDatabase, engine: SQLiteEngine) -> Iterator[sqlite3.Connection]:
    """Another process's write transaction, as the file sees it."""
    connection = sqlite3.connect(engine.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def test_a_write_waits_for_another_process(database: SQLiteDatabase, other_writer: sqlite3.Connection) -> None:
    other_writer.execute(ADD.replace("$1, $2", "1, 'theirs'"))
    write = asyncio.create_task(database.write(adding(2, "ours")))
    await asyncio.sleep(0.05)
    assert not write.done()
    assert await database.fetch(COUNT) == [(0,)]  # reads do not wait
    other_writer.execute("COMMIT")
    assert await write == 2
    assert await database.fetch(ALL) == [(1, "theirs"), (2, "ours")]


async def test_a_write_fails_when_another_process_does_not_end(
    impatience: None, database: SQLiteDatabase, other_writer: sqlite3.Connection
) -> None:
    outcomes = await asyncio.gather(*(database.write(adding(n)) for n in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseFailed] * 3
    assert "locked" in str(outcomes[0])
    other_writer.execute("ROLLBACK")
    assert await database.write(adding(4)) == 4
