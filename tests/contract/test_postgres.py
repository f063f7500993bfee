"""What PostgreSQL's engine does beyond the contract: which failures it runs again, and what it never tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regserver.storage.sql import postgres as adapter
from regserver.storage.sql.port import DatabaseFailed, IntegrityFailed, Transaction
from regserver.storage.sql.postgres import READERS, TRIES_BESIDE_OTHERS, PostgresDatabase
from support.databases import ADD, ALL, PostgresEngine, adding, make_notes
from support.postgres import PASSWORD, server

SET = "UPDATE notes SET text = $2 WHERE id = $1"
TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'regserver' AND pid <> pg_backend_pid()
"""


@pytest.fixture
def engine(tmp_path: Path) -> PostgresEngine:
    return PostgresEngine(tmp_path)


@pytest.fixture
async def database(engine: PostgresEngine) -> AsyncIterator[PostgresDatabase]:
    database = await engine.open()
    await make_notes(database)
    yield database
    await database.close()


async def test_a_transaction_that_another_one_overtook_runs_again_on_what_is_there_now(
    database: PostgresDatabase,
) -> None:
    await database.write(adding(1, "before"))
    seen = []

    async def body(tx: Transaction) -> None:
        seen.extend(await tx.fetch(ALL))
        if len(seen) == 1:
            await database.write(lambda other: other.execute(SET, 1, "between"))
        await tx.execute(SET, 1, "after")

    await database.write(body)
    assert seen == [(1, "before"), (1, "between")]
    assert await database.fetch(ALL) == [(1, "after")]


async def test_two_that_each_read_what_the_other_writes_come_one_after_the_other(database: PostgresDatabase) -> None:
    """Write skew, which READ COMMITTED and snapshots let through: neither writes a row that the other writes."""
    await database.write(adding(1))
    await database.write(adding(2))
    meet = asyncio.Barrier(2)
    runs = []

    async def take(tx: Transaction, mine: int) -> bool:
        runs.append(mine)
        left = len(await tx.fetch(ALL))
        if len(runs) <= 2:
            await meet.wait()
        if left < 2:
            return False
        await tx.execute("DELETE FROM notes WHERE id = $1", mine)
        return True

    taken = await asyncio.gather(*(database.write(lambda tx, mine=mine: take(tx, mine)) for mine in (1, 2)))
    assert sorted(taken) == [False, True]
    assert len(await database.fetch(ALL)) == 1


async def test_what_is_overtaken_again_and_again_is_let_through_alone(database: PostgresDatabase) -> None:
    await database.write(adding(1, "0"))
    runs, overtaking = 0, []

    async def body(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        ((text,),) = await tx.fetch("SELECT text FROM notes WHERE id = 1")
        other = asyncio.create_task(database.write(lambda tx: tx.execute(SET, 1, f"{text}+")))
        overtaking.append(other)
        await asyncio.wait([other], timeout=30 if runs <= TRIES_BESIDE_OTHERS else 0.2)
        assert other.done() == (runs <= TRIES_BESIDE_OTHERS), "nobody passes while it is alone"
        await tx.execute(SET, 1, f"{text}!")

    await database.write(body)
    await asyncio.gather(*overtaking)
    assert runs == TRIES_BESIDE_OTHERS + 1
    assert (await database.fetch(ALL))[0][1] in ("0+++!", "0++++")  # the last one came after it


async def test_a_deadlock_is_run_again(database: PostgresDatabase) -> None:
    await database.write(adding(1))
    await database.write(adding(2))
    meet, runs = asyncio.Barrier(2), []

    async def body(tx: Transaction, first: int, second: int) -> None:
        runs.append(first)
        await tx.execute(SET, first, f"{first} of {first}")
        if len(runs) <= 2:
            await meet.wait()
        await tx.execute(SET, second, f"{second} of {first}")

    await asyncio.gather(
        database.write(lambda tx: body(tx, 1, 2)),
        database.write(lambda tx: body(tx, 2, 1)),
    )
    assert len(runs) > 2
    assert await database.fetch(ALL) in ([(1, "1 of 1"), (2, "2 of 1")], [(1, "1 of 2"), (2, "2 of 2")])


async def test_a_constraint_that_a_neighbour_tripped_is_asked_again(database: PostgresDatabase) -> None:
    """Both look first and find nothing; who comes second must find the other's row, not an error."""
    meet, runs = asyncio.Barrier(2), []

    async def ensure(tx: Transaction) -> str:
        runs.append(1)
        found = await tx.fetch("SELECT id FROM notes WHERE text = 'one'")
        if len(runs) <= 2:
            await meet.wait()
        if found:
            return "found"
        await tx.execute(ADD, len(runs), "one")
        return "made"

    assert sorted(await asyncio.gather(database.write(ensure), database.write(ensure))) == ["found", "made"]


async def test_a_constraint_that_nobody_else_tripped_refuses_in_the_end(database: PostgresDatabase) -> None:
    await database.write(adding(1, "a-value"))
    with pytest.raises(IntegrityFailed) as refused:
        await database.write(adding(2, "a-value"))
    assert "a-value" not in str(refused.value)


async def test_a_connection_that_was_lost_while_idle_is_replaced(database: PostgresDatabase) -> None:
    await database.write(adding(1))
    await database.fetch(ALL)
    server().sql(TERMINATE)
    assert await database.fetch(ALL) == [(1, None)]
    assert await database.read(lambda reader: reader.fetch(ALL)) == [(1, None)]
    await database.write(adding(2))


async def test_a_transaction_whose_connection_is_lost_runs_again(database: PostgresDatabase) -> None:
    runs = 0

    async def body(tx: Transaction) -> int:
        nonlocal runs
        runs += 1
        await tx.execute(ADD, runs, None)
        if runs == 1:
            server().sql(TERMINATE)
        return await tx.execute(ADD, runs + 10, None)

    assert await database.write(body) == 1
    assert await database.fetch(ALL) == [(2, None), (12, None)]


async def test_a_commit_whose_answer_is_lost_is_not_done_again(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have happened: who asked is told that it failed, and nothing is done twice."""
    runs = 0

    async def body(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        await tx.execute(ADD, runs, None)

    async def commit(connection: Any) -> None:
        await connection.execute("COMMIT")
        raise ConnectionResetError

    monkeypatch.setattr(adapter, "_commit", commit)
    with pytest.raises(DatabaseFailed, match="cannot be reached"):
        await database.write(body)
    assert await database.fetch(ALL) == [(1, None)]


async def test_a_waiter_that_goes_away_does_not_stop_its_transaction(
    engine: PostgresEngine, database: PostgresDatabase
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body(tx: Transaction) -> None:
        await tx.execute(ADD, 1, None)
        begun.set()
        await go_on.wait()

    write = asyncio.create_task(database.write(body))
    await begun.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    go_on.set()
    await database.close()
    again = await engine.open()
    assert await again.fetch(ALL) == [(1, None)]
    await again.close()


async def test_readers_that_go_away_leave_room_for_others(database: PostgresDatabase) -> None:
    for _ in range(2 * READERS):
        read = asyncio.create_task(database.fetch("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.02)  # into the statement, or into the connecting: neither may cost a place
        read.cancel()
        await asyncio.wait([read])
    assert await database.fetch(ALL) == []


async def test_a_connection_that_was_idle_for_long_is_made_anew(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = "SELECT pg_backend_pid()"
    before = await database.fetch(backend)
    assert await database.fetch(backend) == before
    monkeypatch.setattr(adapter, "IDLE_SECONDS", 0.0)
    assert await database.fetch(backend) != before


async def test_a_session_answers_after_its_log_is_on_disk_whatever_the_server_s_default(engine: PostgresEngine) -> None:
    database = await PostgresDatabase.open(f"{engine.url}&synchronous_commit=off")
    assert await database.write(lambda tx: tx.fetch("SHOW synchronous_commit")) == [("on",)]
    await database.close()


async def test_a_process_that_hangs_in_a_transaction_holds_nobody_up_for_long(database: PostgresDatabase) -> None:
    assert await database.write(lambda tx: tx.fetch("SHOW idle_in_transaction_session_timeout")) == [("1min",)]


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        (("140011", "UTF8", "on"), "must be 15 or newer"),
        (("150004", "SQL_ASCII", "on"), "ENCODING 'UTF8'"),
        (("150004", "UTF8", "off"), "fsync=off"),
    ],
)
async def test_a_server_that_cannot_keep_a_registry_is_refused(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch, facts: tuple[str, ...], complaint: str
) -> None:
    columns = ", ".join(f"'{fact}'" for fact in facts)
    monkeypatch.setattr(adapter, "_FACTS", f"SELECT {columns}, to_regclass($1)::text")
    with pytest.raises(DatabaseFailed, match=complaint):
        await engine.open()


@pytest.mark.parametrize("change", [("host=", "host=/nowhere"), ("/postgres?", "/nothing?")])
async def test_a_server_that_is_not_there_is_an_error_without_the_password(
    engine: PostgresEngine, change: tuple[str, str]
) -> None:
    with pytest.raises(DatabaseFailed) as failed:
        await PostgresDatabase.open(engine.url.replace(*change))
    chain, shown = failed.value, ""
    while chain is not None:
        shown, chain = shown + str(chain), chain.__cause__ or chain.__context__  # type: ignore[assignment]
    assert PASSWORD not in shown


async def test_processes_may_open_an_empty_database_at_once(engine: PostgresEngine) -> None:
    databases = await asyncio.gather(*(engine.open() for _ in range(5)))
    for database in databases:
        await database.close()
