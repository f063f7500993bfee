"""Migrations: each file once, whole or not at all, and never against a database they do not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import regserver
from regserver.storage.sql.migrate import Migratable, Migration, MigrationRefused, load, migrate, statements
from regserver.storage.sql.port import DatabaseFailed
from regserver.storage.sql.postgres import PostgresDatabase
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.databases import ENGINES, Engine

RECORDED = "SELECT number, name FROM schema_migrations ORDER BY number"
PLAIN = {"{TEXT}": "TEXT"}
PEOPLE = Migration(1, "people", "CREATE TABLE people (name {TEXT} PRIMARY KEY) {CLUSTERED};")
PETS = Migration(2, "pets", "CREATE TABLE pets (id {ID});\nINSERT INTO people (name) VALUES ('Ada; -- the first');")
TREES = Migration(3, "trees", "CREATE TABLE trees (ring {BYTES})")


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return ENGINES[request.param](tmp_path)


@pytest.fixture
async def database(engine: Engine) -> AsyncIterator[Migratable]:
    database = await engine.open()
    yield database
    await database.close()


async def test_the_shipped_migrations_apply_once(database: Migratable) -> None:
    names = await migrate(database)
    assert names[0] == "0001_initial"
    assert names == [f"{migration.number:04}_{migration.name}" for migration in load()]
    assert await migrate(database) == []
    assert await database.fetch("SELECT * FROM registries") == []


async def test_what_is_missing_is_applied_in_order(database: Migratable) -> None:
    assert await migrate(database, [PEOPLE]) == ["0001_people"]
    assert await migrate(database, [PEOPLE, PETS, TREES]) == ["0002_pets", "0003_trees"]
    assert await database.fetch(RECORDED) == [(1, "people"), (2, "pets"), (3, "trees")]
    assert await database.fetch("SELECT name FROM people") == [("Ada; -- the first",)]


async def test_a_file_that_fails_leaves_nothing_of_itself_and_what_came_before(database: Migratable) -> None:
    broken = dataclasses.replace(PETS, text="CREATE TABLE pets (id {ID}); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(DatabaseFailed, match="nowhere"):
        await migrate(database, [PEOPLE, broken])
    assert await database.fetch(RECORDED) == [(1, "people")]
    assert await migrate(database, [PEOPLE, PETS]) == ["0002_pets"]


async def test_a_database_newer_than_the_code_is_refused(database: Migratable) -> None:
    await migrate(database, [PEOPLE, PETS])
    with pytest.raises(MigrationRefused, match=r"0002_pets.*start the version that wrote it or a newer one"):
        await migrate(database, [PEOPLE])
    assert await database.fetch(RECORDED) == [(1, "people"), (2, "pets")]


async def test_a_file_changed_since_it_was_applied_is_refused(database: Migratable) -> None:
    await migrate(database, [PEOPLE])
    changed = dataclasses.replace(PEOPLE, text=PEOPLE.text + " ")
    with pytest.raises(MigrationRefused, match=r"0001_people.*other contents"):
        await migrate(database, [changed, PETS])
    assert await database.fetch(RECORDED) == [(1, "people")]


async def test_a_database_with_a_gap_is_refused(database: Migratable) -> None:
    await migrate(database, [PEOPLE, PETS])
    await database.write(lambda tx: tx.execute("DELETE FROM schema_migrations WHERE number = 1"))
    with pytest.raises(MigrationRefused, match="lacks migration 0001"):
        await migrate(database, [PEOPLE, PETS])


@pytest.mark.parametrize("shipped", [[PEOPLE, TREES], [PETS], [PEOPLE, PEOPLE], [PETS, PEOPLE]])
async def test_files_with_a_gap_are_refused(database: Migratable, shipped: list[Migration]) -> None:
    with pytest.raises(MigrationRefused, match="not numbered"):
        await migrate(database, shipped)


async def test_a_refusal_leaves_an_empty_database_empty(database: Migratable) -> None:
    with pytest.raises(MigrationRefused):
        await migrate(database, [TREES])
    with pytest.raises(DatabaseFailed):
        await database.fetch(RECORDED)


async def test_migrators_at_once_apply_each_file_once(engine: Engine, database: Migratable) -> None:
    others = [await engine.open() for _ in range(3)]
    applied = await asyncio.gather(*(migrate(each, [PEOPLE, PETS, TREES]) for each in (database, *others)))
    assert sorted(name for names in applied for name in names) == ["0001_people", "0002_pets", "0003_trees"]
    for other in others:
        await other.close()


def test_statements_end_at_semicolons_outside_of_text_and_comments() -> None:
    text = """
    -- a comment; with 'one quote
    CREATE TABLE a (b {TEXT} DEFAULT 'x;y''z; -- no comment'); -- trailing; remark
    SELECT 1 - 2;

    ;SELECT '{'
    """
    assert statements(text, PLAIN) == [
        "CREATE TABLE a (b TEXT DEFAULT 'x;y''z; -- no comment')",
        "SELECT 1 - 2",
        "SELECT '{'",
    ]


@pytest.mark.parametrize("templates", [SQLiteDatabase.templates, PostgresDatabase.templates])
def test_every_word_of_the_shipped_files_is_filled_in(templates: dict[str, str]) -> None:
    for migration in load():
        assert "{" not in "".join(statements(migration.text, templates))


def test_the_files_are_found_inside_a_zip(tmp_path: Path) -> None:
    package = Path(regserver.__file__).parent
    archive = tmp_path / "regserver.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in package.rglob("*"):
            if file.suffix in {".py", ".sql"}:
                target.write(file, file.relative_to(package.parent))
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); from regserver.storage.sql import migrate as m; "
    code += "print(m.__file__, [each.number for each in m.load()])"
    answer = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert answer.strip() == f"{archive}/regserver/storage/sql/migrate.py {[each.number for each in load()]}"
