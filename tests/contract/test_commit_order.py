"""What is drawn at the commit is drawn in the order of the commits: who has seen an id has seen all before it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from regserver.storage.sql.port import Transaction
from support.databases import ENGINES, make_notes

DRAW = "INSERT INTO remarks (note) VALUES ($1)"
SEEN = "SELECT id FROM remarks ORDER BY id"
ROUNDS = 30


@pytest.mark.parametrize("name", ENGINES)
async def test_no_id_appears_behind_one_that_was_seen(tmp_path: Path, name: str) -> None:
    engine = ENGINES[name](tmp_path)
    writers = [await engine.open() for _ in range(3)]
    reader = await engine.open()
    await make_notes(reader)

    async def work(number: int) -> None:
        for round_ in range(ROUNDS):
            note = number * ROUNDS + round_

            async def body(tx: Transaction, note: int = note) -> None:
                await tx.execute("INSERT INTO notes (id, text) VALUES ($1, NULL)", note)
                await tx.at_commit(DRAW, note)
                await tx.execute("UPDATE notes SET text = $2 WHERE id = $1", note, f"{note}")

            await writers[number % 3].write(body)

    working = asyncio.gather(*(work(number) for number in range(9)))
    seen: list[int] = []
    while not working.done():
        ids = [row[0] for row in await reader.fetch(SEEN)]
        assert ids[: len(seen)] == seen
        seen = ids
        await asyncio.sleep(0)
    await working
    assert len(await reader.fetch(SEEN)) == 9 * ROUNDS
    for database in (*writers, reader):
        await database.close()


@pytest.mark.parametrize("name", ENGINES)
async def test_what_is_put_off_to_the_commit_goes_with_its_transaction(tmp_path: Path, name: str) -> None:
    database = await ENGINES[name](tmp_path).open()
    await make_notes(database)

    async def refused(tx: Transaction) -> None:
        await tx.execute("INSERT INTO notes (id, text) VALUES (1, NULL)")
        await tx.at_commit(DRAW, 1)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(refused)
    assert await database.fetch(SEEN) == []
    await database.close()
