"""Images and collections of before figures were kept: they are counted once, when the database is migrated."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.storage.catalog import images, jobs, usage
from regserver.storage.catalog.images import ImageSort, NameFilter
from regserver.storage.sql.migrate import load, migrate
from regserver.storage.sql.port import Transaction
from support.databases import ENGINES, SQLiteDatabase

FIGURES = next(migration for migration in load() if migration.name == "figures")
BEFORE = [migration for migration in load() if migration.number < FIGURES.number]
DRY_RUN = '{"dry_run": true, "items": [{"kind": "blob"}]}'
HELD = '{"held": []}'


@pytest.fixture(params=sorted(ENGINES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    database = await ENGINES[request.param](tmp_path).open()
    await migrate(database, BEFORE)
    await database.write(hold)
    assert f"{FIGURES.number:04}_figures" in await migrate(database)
    yield database
    await database.close()


async def hold(tx: Transaction) -> None:
    """Two images, one of them with two tags and a blob that both share; a dry run and a collection."""
    await tx.execute(
        "INSERT INTO registries (id, name, status, public, created_at, updated_at) "
        "VALUES ('reg_a', 'a', 'active', 0, 1, 1)"
    )
    for number in (1, 2):
        await tx.execute("INSERT INTO repositories (registry_id, name) VALUES ('reg_a', $1)", f"image{number}")
        await tx.execute(
            "INSERT INTO manifests "
            "(repository_id, digest, media_type, size, was_held, pushed_at, pushed_epoch, content) "
            "VALUES ($1, 'sha256:m', '', 10, 1, 0, 0, $2)",
            number,
            b"",
        )
    await tx.execute("INSERT INTO blobs (digest, size, key) VALUES ('sha256:b', 100, 'k')")
    for number in (1, 2):
        await tx.execute(
            "INSERT INTO repository_blobs (repository_id, digest, registry_id) VALUES ($1, 'sha256:b', 'reg_a')", number
        )
    for tag in ("v1", "v2"):
        await tx.execute(
            "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES (1, $1, 'sha256:m', 5)", tag
        )
    for job, report in (("gc_dry", DRY_RUN), ("gc_done", HELD)):
        await tx.execute(
            "INSERT INTO gc_jobs (id, registry_id, status, phase, report, started_at) "
            "VALUES ($1, 'reg_a', 'completed', 'done', $2, 1)",
            job,
            report,
        )


async def test_what_was_there_is_counted(database: SQLiteDatabase) -> None:
    rows, total = await images.page(database, "reg_a", NameFilter(), ImageSort.NAME, 10, 0)
    assert [(row.name, row.tag_count, row.size_bytes, row.last_pushed) for row in rows] == [("image1", 2, 110, 5)]
    assert total == 1
    assert await usage.recomputed_images(database, "reg_a") == [(1, 2, 110, 2, 110), (2, 0, 110, 0, 110)]


async def test_what_a_dry_run_found_stands_beside_its_report(database: SQLiteDatabase) -> None:
    dry, done = await jobs.by_id(database, "reg_a", "gc_dry"), await jobs.by_id(database, "reg_a", "gc_done")
    assert dry is not None
    assert done is not None
    assert (dry.report, done.report) == ('{"dry_run": true}', HELD)
    assert await jobs.found(database, "reg_a", "gc_dry") == DRY_RUN
    assert await jobs.found(database, "reg_a", "gc_done") is None
