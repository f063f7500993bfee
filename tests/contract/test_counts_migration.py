"""Blobs and links of before they kept counts: they are counted once, when the database is migrated."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.storage.catalog import counts
from regserver.storage.sql.migrate import load, migrate
from regserver.storage.sql.port import Transaction
from support.databases import ENGINES, SQLiteDatabase

COUNTS = next(migration for migration in load() if migration.name == "counts")
BEFORE = [migration for migration in load() if migration.number < COUNTS.number]


@pytest.fixture(params=sorted(ENGINES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    database = await ENGINES[request.param](tmp_path).open()
    await migrate(database, BEFORE)
    await database.write(hold)
    assert f"{COUNTS.number:04}_counts" in await migrate(database)
    yield database
    await database.close()


async def hold(tx: Transaction) -> None:
    """Three blobs: of two images and three manifests, of one image without use, and a loose one."""
    await tx.execute(
        "INSERT INTO registries (id, name, status, public, created_at, updated_at) "
        "VALUES ('reg_a', 'a', 'active', 0, 1, 1)"
    )
    for number, digest in enumerate(("sha256:both", "sha256:one", "sha256:none"), 5):
        await tx.execute("INSERT INTO blobs (digest, size, key) VALUES ($1, $2, $1)", digest, number)
    for image, digests in ((1, ("sha256:both", "sha256:one")), (2, ("sha256:both",))):
        await tx.execute("INSERT INTO repositories (registry_id, name) VALUES ('reg_a', $1)", f"image{image}")
        for digest in digests:
            await tx.execute(
                "INSERT INTO repository_blobs (repository_id, digest, registry_id) VALUES ($1, $2, 'reg_a')",
                image,
                digest,
            )
    for image, manifest in ((1, "sha256:m"), (1, "sha256:n"), (2, "sha256:m")):
        await tx.execute(
            "INSERT INTO manifests "
            "(repository_id, digest, media_type, size, was_held, pushed_at, pushed_epoch, content) "
            "VALUES ($1, $2, '', 10, 1, 0, 0, $3)",
            image,
            manifest,
            b"",
        )
        await tx.execute(
            "INSERT INTO manifest_blobs (repository_id, manifest, digest) VALUES ($1, $2, 'sha256:both')",
            image,
            manifest,
        )


async def test_what_was_there_is_counted(database: SQLiteDatabase) -> None:
    assert await database.fetch("SELECT digest, links FROM blobs ORDER BY digest") == [
        ("sha256:both", 2),
        ("sha256:none", 0),
        ("sha256:one", 1),
    ]
    columns = "repository_id, digest, size, users, alone"
    assert await database.fetch(f"SELECT {columns} FROM repository_blobs ORDER BY repository_id, digest") == [
        (1, "sha256:both", 5, 2, 0),
        (1, "sha256:one", 6, 0, 1),
        (2, "sha256:both", 5, 1, 0),
    ]
    assert await counts.wrong_links(database, "reg_a") == 0
    assert await counts.wrong_blobs(database, "", 9) == []
