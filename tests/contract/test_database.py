"""What every engine promises behind the Database port."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.port import DatabaseFailed, IntegrityFailed, Reader, Transaction
from support.databases import ADD, ALL, ENGINES, Engine, adding, make_notes

COUNT = "SELECT COUNT(*) FROM notes"
GET = "SELECT text FROM notes WHERE id = $1"


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return ENGINES[request.param](tmp_path)


@pytest.fixture
async def database(engine: Engine) -> AsyncIterator[Migratable]:
    database = await engine.open()
    await make_notes(database)
    yield database
    await database.close()


async def test_write_returns_what_its_body_returns(database: Migratable) -> None:
    assert await database.write(adding(7, "seven")) == 7
    assert await database.fetch(ALL) == [(7, "seven")]


async def test_an_exception_of_the_body_passes_through_unchanged_and_keeps_nothing(database: Migratable) -> None:
    refusal = RegistryError(ErrorCode.DENIED, {"limit": 1})
    with pytest.raises(RegistryError) as caught:
        await database.write(adding(1, then=refusal))
    assert caught.value is refusal
    assert await database.fetch(COUNT) == [(0,)]


async def test_a_read_follows_a_write_on_every_connection(engine: Engine, database: Migratable) -> None:
    other = await engine.open()
    for number in range(50):
        await database.write(adding(number, str(number)))
        assert await database.fetch(GET, number) == [(str(number),)]
        assert await other.fetch(GET, number) == [(str(number),)]
        assert await database.read(lambda reader, number=number: reader.fetch(GET, number)) == [(str(number),)]
    await other.close()


async def test_a_transaction_sees_its_own_writes_and_nobody_else_does(engine: Engine, database: Migratable) -> None:
    wrote, looked = engine.signal(), engine.signal()

    async def body(tx: Transaction) -> list[Any]:
        await tx.execute(ADD, 1, "mine")
        wrote.set()
        await looked.wait()
        return await tx.fetch(ALL)

    write = asyncio.create_task(database.write(body))
    await wrote.wait()
    assert await database.fetch(ALL) == []
    looked.set()
    assert await write == [(1, "mine")]


async def test_transactions_that_read_and_then_write_lose_no_update(database: Migratable) -> None:
    await database.write(adding(0, "0"))

    async def increment(tx: Transaction) -> None:
        [(text,)] = await tx.fetch(GET, 0)
        await tx.execute("UPDATE notes SET text = $1 WHERE id = 0", str(int(text) + 1))

    await asyncio.gather(*(database.write(increment) for _ in range(200)))
    assert await database.fetch(GET, 0) == [("200",)]


async def test_a_read_stays_on_one_snapshot(engine: Engine, database: Migratable) -> None:
    looked, wrote = engine.signal(), engine.signal()

    async def body(reader: Reader) -> list[Any]:
        before = await reader.fetch(COUNT)
        looked.set()
        await wrote.wait()
        return [before, await reader.fetch(COUNT)]

    read = asyncio.create_task(database.read(body))
    await looked.wait()
    await database.write(adding(1))
    assert await database.read(lambda reader: reader.fetch(COUNT)) == [(1,)]  # nor does it keep others waiting
    wrote.set()
    assert await read == [[(0,)], [(0,)]]


async def test_a_read_cannot_write(database: Migratable) -> None:
    with pytest.raises(DatabaseFailed):
        await database.read(lambda reader: reader.fetch(ADD, 1, "no"))
    with pytest.raises(DatabaseFailed):
        await database.fetch(ADD, 1, "no")
    assert await database.fetch(COUNT) == [(0,)]


async def test_an_exception_of_a_read_leaves_its_connection_usable(database: Migratable) -> None:
    async def body(reader: Reader) -> None:
        await reader.fetch(COUNT)
        raise RegistryError(ErrorCode.NAME_UNKNOWN)

    for _ in range(4):
        with pytest.raises(RegistryError):
            await database.read(body)
    await database.write(adding(1))
    assert await database.read(lambda reader: reader.fetch(COUNT)) == [(1,)]


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63)])
async def test_integers_of_64_bits_are_kept_exactly(database: Migratable, value: int) -> None:
    await database.write(adding(value, "x"))
    assert await database.fetch(ALL) == [(value, "x")]


@pytest.mark.parametrize("value", [b"", b"\0\xff" * 1000, None])
async def test_bytes_and_null_are_kept_exactly(database: Migratable, value: bytes | None) -> None:
    await database.write(lambda tx: tx.execute("INSERT INTO notes (id, data) VALUES (1, $1)", value))
    assert await database.fetch("SELECT data FROM notes") == [(value,)]


async def test_a_boolean_is_kept_as_an_integer(database: Migratable) -> None:
    await database.write(adding(True))
    [(number,)] = await database.fetch("SELECT id FROM notes WHERE id = $1", True)
    assert type(number) is int


async def test_text_is_ordered_by_its_bytes(database: Migratable) -> None:
    for number, text in enumerate(["b", "B", "a", "é", "-", "0", "_"]):
        await database.write(adding(number, text))
    assert [text for (text,) in await database.fetch("SELECT text FROM notes ORDER BY text")] == list("-0B_abé")


async def test_placeholders_go_by_number_not_by_place(database: Migratable) -> None:
    await database.write(lambda tx: tx.execute("INSERT INTO notes (text, id) VALUES ($2, $1)", 5, "five"))
    sql = "SELECT CAST($2 AS TEXT), text, CAST($1 AS BIGINT), $1 + 0 FROM notes WHERE text = $2 AND id = $1"
    for read in (database.fetch(sql, 5, "five"), database.read(lambda reader: reader.fetch(sql, 5, "five"))):
        assert await read == [("five", "five", 5, 5)]


async def test_more_than_nine_placeholders_are_told_apart(database: Migratable) -> None:
    columns = ", ".join(f"CAST(${number} AS BIGINT)" for number in range(12, 0, -1))
    assert await database.fetch(f"SELECT {columns}", *range(1, 13)) == [tuple(range(12, 0, -1))]


async def test_execute_counts_the_rows_it_changed(database: Migratable) -> None:
    async def body(tx: Transaction) -> list[int]:
        return [
            await tx.execute("INSERT INTO notes (id, text) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')"),
            await tx.execute("INSERT INTO notes (id) VALUES (1) ON CONFLICT DO NOTHING"),
            await tx.execute("UPDATE notes SET data = $1 WHERE id < $2", b"x", 4),
            await tx.execute("DELETE FROM notes WHERE id <= 2 RETURNING id"),
            await tx.execute(
                "WITH last AS (SELECT MAX(id) AS id FROM notes) DELETE FROM notes WHERE id IN (SELECT id FROM last)"
            ),
            await tx.execute("DELETE FROM notes WHERE id = 99"),
        ]

    assert await database.write(body) == [4, 0, 3, 2, 1, 0]


async def test_fetch_in_a_transaction_returns_what_a_statement_returns(database: Migratable) -> None:
    sql = "INSERT INTO notes (id) VALUES ($1), ($2) RETURNING id"
    assert await database.write(lambda tx: tx.fetch(sql, 1, 2)) == [(1,), (2,)]
    assert await database.fetch(COUNT) == [(2,)]


async def test_a_unique_constraint_refuses(database: Migratable) -> None:
    await database.write(adding(1, "same"))
    with pytest.raises(IntegrityFailed):
        await database.write(adding(2, "same"))
    assert await database.fetch(ALL) == [(1, "same")]


async def test_a_foreign_key_refuses(database: Migratable) -> None:
    await database.write(adding(1))
    await database.write(lambda tx: tx.execute("INSERT INTO remarks (note) VALUES (1)"))
    with pytest.raises(IntegrityFailed):
        await database.write(lambda tx: tx.execute("INSERT INTO remarks (note) VALUES (2)"))
    with pytest.raises(IntegrityFailed):
        await database.write(lambda tx: tx.execute("DELETE FROM notes"))
    assert await database.fetch("SELECT note FROM remarks") == [(1,)]


async def test_a_failed_statement_fails_its_transaction_even_when_the_body_goes_on(database: Migratable) -> None:
    await database.write(adding(1))

    async def body(tx: Transaction) -> str:
        await tx.execute(ADD, 2, "lost")
        for number in (1, 3):
            with pytest.raises(IntegrityFailed):
                await tx.execute(ADD, number, "refused")
        return "done"

    with pytest.raises(IntegrityFailed):
        await database.write(body)
    assert await database.fetch(ALL) == [(1, None)]


async def test_a_body_may_name_a_failed_constraint_in_its_own_words(database: Migratable) -> None:
    async def body(tx: Transaction) -> None:
        try:
            await tx.execute("INSERT INTO remarks (note) VALUES (404)")
        except IntegrityFailed as error:
            raise RegistryError(ErrorCode.MANIFEST_BLOB_UNKNOWN) from error

    with pytest.raises(RegistryError):
        await database.write(body)


async def test_a_statement_the_engine_cannot_read_is_a_failure_that_changes_nothing(database: Migratable) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(ADD, 1, "lost")
        await tx.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(DatabaseFailed, match="nowhere"):
        await database.write(body)
    with pytest.raises(DatabaseFailed, match="nowhere"):
        await database.fetch("SELECT * FROM nowhere")
    assert await database.fetch(COUNT) == [(0,)]


async def test_a_commit_that_fails_fails_the_transaction(database: Migratable) -> None:
    with pytest.raises(DatabaseFailed):
        await database.write(lambda tx: tx.execute("INSERT INTO promises (note) VALUES (404)"))
    await database.write(adding(1))
    assert await database.fetch("SELECT * FROM promises") == []


async def test_an_id_that_was_deleted_never_comes_back(database: Migratable) -> None:
    async def body(tx: Transaction) -> list[Any]:
        await tx.execute(ADD, 1, None)
        first = await tx.fetch("INSERT INTO remarks (note) VALUES (1) RETURNING id")
        await tx.execute("DELETE FROM remarks")
        return [first, await tx.fetch("INSERT INTO remarks (note) VALUES (1) RETURNING id")]

    assert await database.write(body) == [[(1,)], [(2,)]]


async def test_close_finishes_what_waits_and_refuses_what_follows(engine: Engine, database: Migratable) -> None:
    writes = [asyncio.create_task(database.write(adding(number))) for number in range(100)]
    reads = [asyncio.create_task(database.read(lambda reader: reader.fetch("SELECT 1"))) for _ in range(10)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*writes) == list(range(100))
    assert await asyncio.gather(*reads) == [[(1,)]] * 10
    with pytest.raises(DatabaseFailed):
        await database.write(adding(1000))
    with pytest.raises(DatabaseFailed):
        await database.read(lambda reader: reader.fetch(COUNT))
    with pytest.raises(DatabaseFailed):
        await database.fetch(COUNT)
    again = await engine.open()
    assert await again.fetch(COUNT) == [(100,)]
    await again.close()


INCREMENTS = """
import asyncio

async def increment(tx):
    [(text,)] = await tx.fetch("SELECT text FROM notes WHERE id = 0")
    await tx.execute("UPDATE notes SET text = $1 WHERE id = 0", str(int(text) + 1))

async def main():
    database = await open()
    for _ in range(50):
        await asyncio.gather(*(database.write(increment) for _ in range(4)))
    await database.close()

asyncio.run(main())
"""


async def test_two_processes_lose_no_update(engine: Engine, database: Migratable) -> None:
    await database.write(adding(0, "0"))
    processes = [subprocess.Popen([sys.executable, "-c", engine.code + INCREMENTS]) for _ in range(2)]
    assert [await asyncio.to_thread(process.wait, 120) for process in processes] == [0, 0]
    assert await database.fetch(GET, 0) == [("400",)]
