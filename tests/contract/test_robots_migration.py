"""Credentials made before robots had names and rights: each is its registry's own robot afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.storage.catalog import accounts
from regserver.storage.sql.migrate import load, migrate
from regserver.storage.sql.port import IntegrityFailed, Transaction
from support.databases import ENGINES, SQLiteDatabase

BEFORE = [migration for migration in load() if migration.name != "robots" and migration.number < 5]
ID = "06a9v3k7fshb72q0e5dcm1n8p4"


@pytest.fixture(params=sorted(ENGINES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    database = await ENGINES[request.param](tmp_path).open()
    await migrate(database, BEFORE)
    yield database
    await database.close()


async def hold(tx: Transaction) -> None:
    await tx.execute(
        "INSERT INTO registries (id, name, status, public, created_at, updated_at) "
        "VALUES ('reg_a', 'a', 'active', 0, 1, 1)"
    )
    await tx.execute(
        "INSERT INTO credentials (id, registry_id, username, actions, version, key_id, claims, created_at) "
        "VALUES ($1, 'reg_a', 'robot$a', 'pull,push,delete', 3, 'key_a', '{}', 7)",
        f"cred_{ID}",
    )


async def test_a_robot_of_before_is_the_registry_s_own_under_an_id_of_its_kind(database: SQLiteDatabase) -> None:
    await database.write(hold)
    assert "0005_robots" in await migrate(database)
    own = await accounts.of_registry(database, "reg_a")
    assert own is not None
    assert (own.id, own.username, own.version, own.name, own.images) == (f"rob_{ID}", "robot$a", 3, None, None)
    assert (own.expires_at, own.created_at, own.updated_at, own.last_used_at) == (None, 7, 7, None)


async def test_a_registry_has_one_robot_of_its_own(database: SQLiteDatabase) -> None:
    await database.write(hold)
    await migrate(database)
    second = (
        "INSERT INTO credentials (id, registry_id, username, actions, version, key_id, claims, created_at) "
        "VALUES ('rob_x', 'reg_a', 'robot$x', 'pull', 1, 'key_a', '{}', 7)"
    )
    with pytest.raises(IntegrityFailed):
        await database.write(lambda tx: tx.execute(second))
