"""What the SQLite engine promises beyond the port: durability, privacy, reads in one hop, a file that stays small."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from regserver.storage.sql import group_commit, sqlite
from regserver.storage.sql.port import DatabaseDamaged, DatabaseFailed, Reader
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.databases import ALL, SQLiteEngine, adding, make_notes, pragma

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


# ---- the file


async def test_a_commit_reaches_the_disk_before_it_returns(database: SQLiteDatabase) -> None:
    assert await pragma(database, "synchronous") == 2  # FULL: the log is fsynced in every COMMIT
    assert await pragma(database, "journal_mode") == "wal"
    assert await pragma(database, "foreign_keys") == 1


async def test_a_new_file_can_give_free_pages_back(database: SQLiteDatabase) -> None:
    assert await pragma(database, "auto_vacuum") == 2  # INCREMENTAL
    assert await database.fetch("PRAGMA auto_vacuum") == [(2,)]


async def test_only_its_owner_may_read_the_catalog(engine: SQLiteEngine, database: SQLiteDatabase) -> None:
    await database.write(adding(1))
    files = {file.name: file.stat().st_mode & 0o777 for file in engine.path.parent.iterdir()}
    assert files == {"catalog.db": 0o600, "catalog.db-wal": 0o600, "catalog.db-shm": 0o600}
    assert engine.path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_file_that_others_may_read_is_closed_to_them(engine: SQLiteEngine) -> None:
    engine.path.parent.mkdir()
    engine.path.touch(mode=0o644)
    engine.path.chmod(0o644)
    database = await engine.open()
    assert engine.path.stat().st_mode & 0o777 == 0o600
    await database.close()


async def test_close_folds_the_log_into_the_file(engine: SQLiteEngine) -> None:
    database = await engine.open()
    await make_notes(database)
    await database.close()
    await database.close()
    assert [file.name for file in engine.path.parent.iterdir()] == ["catalog.db"]


async def test_a_file_that_is_no_database_is_refused(engine: SQLiteEngine) -> None:
    engine.path.parent.mkdir()
    engine.path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(DatabaseFailed, match="not a database"):
        await engine.open()


async def damage(engine: SQLiteEngine, table: str) -> None:
    """Flips the first bytes of a table's root page, in a file that nobody has open."""
    with contextlib.closing(sqlite3.connect(engine.path)) as catalog:
        ((page,),) = catalog.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
        ((size,),) = catalog.execute("PRAGMA page_size").fetchall()
    with engine.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 16)


@pytest.mark.parametrize("who", ["a check", "a read", "a snapshot", "a write"])
async def test_damage_that_somebody_meets_ends_the_writing_and_not_the_reading(engine: SQLiteEngine, who: str) -> None:
    database = await engine.open()
    await make_notes(database)
    await database.write(lambda tx: tx.execute("CREATE TABLE others (x BIGINT)"))
    await database.close()
    await damage(engine, "others")
    database = await engine.open()
    await database.write(adding("before"))
    if who == "a check":
        await database.check()
    else:
        meet = {
            "a read": lambda: database.fetch("SELECT x FROM others"),
            "a snapshot": lambda: database.read(lambda reader: reader.fetch("SELECT x FROM others")),
            "a write": lambda: database.write(lambda tx: tx.execute("INSERT INTO others VALUES (1)")),
        }[who]
        with pytest.raises(DatabaseDamaged):
            await meet()
    with pytest.raises(DatabaseDamaged, match="restore the catalog from a backup"):
        await database.write(adding("after"))
    assert await database.fetch(COUNT) == [(1,)]
    await database.close()


async def test_a_check_of_a_sound_file_says_nothing(database: SQLiteDatabase) -> None:
    await database.check()
    await database.write(adding("after"))


async def test_a_check_ends_when_the_database_is_closed(
    database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECK_STEPS", 1)
    database._closed = True
    await database.check()
    database._closed = False
    await database.write(adding("an interrupted check is no damage"))


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    with pytest.raises(DatabaseFailed):
        await SQLiteDatabase.open(tmp_path / "file" / "catalog.db")


OPEN = """
import asyncio, pathlib, sys
from regserver.storage.sql.sqlite import SQLiteDatabase

async def main():
    database = await SQLiteDatabase.open(pathlib.Path(sys.argv[1]))
    await database.write(lambda tx: tx.execute("CREATE TABLE IF NOT EXISTS t (x BIGINT)"))
    await database.write(lambda tx: tx.execute("INSERT INTO t VALUES (1)"))
    print(await database.fetch("PRAGMA auto_vacuum"), await database.fetch("PRAGMA journal_mode"))
    await database.close()

asyncio.run(main())
"""


async def test_processes_may_create_the_file_at_once(engine: SQLiteEngine) -> None:
    commands = [[sys.executable, "-c", OPEN, engine.path]] * 4
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    answers = [await asyncio.to_thread(process.communicate, timeout=120) for process in processes]
    assert [answer[0] for answer in answers] == ["[(2,)] [('wal',)]\n"] * 4
    database = await engine.open()
    assert await database.fetch("SELECT COUNT(*) FROM t") == [(4,)]
    await database.close()


# ---- reads


async def test_fetch_answers_without_leaving_the_loop(database: SQLiteDatabase) -> None:
    await database.write(adding(1, "one"))
    with pytest.raises(StopIteration) as done:
        database.fetch(ALL).send(None)  # type: ignore[attr-defined]
    assert done.value.value == [(1, "one")]


class BusyConnection:
    """A connection that finds the file locked, as while another process recovers its log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.close = connection.close

    def execute(self, *args: Any) -> Any:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
        raise error


async def test_fetch_on_a_busy_file_waits_in_a_thread(database: SQLiteDatabase) -> None:
    await database.write(adding(1, "one"))
    database._points = BusyConnection(database._points)  # type: ignore[assignment]
    assert await database.fetch("SELECT text FROM notes WHERE id = $1", 1) == [("one",)]


async def test_a_read_is_one_hop_into_a_thread_of_the_driver(database: SQLiteDatabase) -> None:
    """Pins what is private to aiosqlite: one queued call runs a whole body, on its plain connection."""
    driver = database._snapshots[0]._driver
    threads: list[threading.Thread] = []

    async def body(reader: Reader) -> None:
        for _ in range(3):
            await reader.fetch(COUNT)
            threads.append(threading.current_thread())

    await database.read(body)
    assert threads == [driver._thread] * 3
    assert driver._thread.daemon
    assert isinstance(driver._conn, sqlite3.Connection)
    assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
    assert await driver._execute(lambda first, second: first + second, 1, 2) == 3


async def test_a_read_goes_to_the_connection_with_the_fewest_waiting(database: SQLiteDatabase) -> None:
    leave = threading.Event()

    async def hold(reader: Reader) -> None:
        leave.wait(60)

    reads = [asyncio.create_task(database.read(hold)) for _ in database._snapshots]
    await asyncio.sleep(0)
    assert [reader.waiting for reader in database._snapshots] == [1] * sqlite.SNAPSHOT_READERS
    leave.set()
    await asyncio.gather(*reads)
    assert [reader.waiting for reader in database._snapshots] == [0] * sqlite.SNAPSHOT_READERS


# ---- the log and the free pages


async def test_the_log_stays_bounded_under_reads_and_writes(engine: SQLiteEngine, database: SQLiteDatabase) -> None:
    log = engine.path.with_name("catalog.db-wal")
    sizes = []
    for number in range(60):
        data = bytes([number]) * 2**18
        await database.write(
            lambda tx, n=number, d=data: tx.execute("INSERT INTO notes (id, data) VALUES ($1, $2)", n, d)
        )
        await database.read(lambda reader: reader.fetch(COUNT))
        await database.fetch(COUNT)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 6 * 2**20  # of 15 MiB written: a thousand pages and the transaction that reached them


async def test_a_log_that_a_long_read_let_grow_is_cut_down(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_BYTES", 2**20)
    database = await engine.open()
    await make_notes(database)
    log = engine.path.with_name("catalog.db-wal")
    looked, leave = threading.Event(), threading.Event()

    async def hold(reader: Reader) -> None:
        await reader.fetch(COUNT)
        looked.set()
        leave.wait(60)

    def replace(number: int) -> Any:
        sql = "INSERT INTO notes (id, data) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET data = excluded.data"
        return lambda tx: tx.execute(sql, bytes([number]) * 2**19)

    read = asyncio.create_task(database.read(hold))
    await asyncio.to_thread(looked.wait, 60)
    for number in range(16):
        await database.write(replace(number))
    assert log.stat().st_size > 8 * 2**20
    leave.set()
    await read
    for number in range(3):
        await database.write(replace(number))
    assert log.stat().st_size < 4 * 2**20
    await database.close()


async def test_a_quiet_moment_gives_free_pages_back(
    engine: SQLiteEngine, database: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(group_commit, "FREE_PAGES_PER_SLICE", 100)
    await database.write(lambda tx: tx.execute("INSERT INTO notes (id, data) VALUES (1, $1)", bytes(2**22)))
    await database.write(lambda tx: tx.execute("DELETE FROM notes"))
    deadline = time.monotonic() + 60
    while engine.path.stat().st_size > 2**19 and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread does it
        await asyncio.sleep(0.01)
    assert engine.path.stat().st_size <= 2**19
