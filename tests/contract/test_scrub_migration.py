"""What was there before scrubs and schedules: sound, collected when its registry was made, and nobody's doing."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.storage.catalog import blobs, jobs, registries, scrub
from regserver.storage.sql.migrate import load, migrate
from regserver.storage.sql.port import Transaction
from support.databases import ENGINES, SQLiteDatabase

SCRUB = next(migration for migration in load() if migration.name == "scrub")
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(params=sorted(ENGINES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteDatabase]:
    database = await ENGINES[request.param](tmp_path).open()
    await migrate(database, [migration for migration in load() if migration.number < SCRUB.number])
    yield database
    await database.close()


async def hold(tx: Transaction) -> None:
    await tx.execute(
        "INSERT INTO registries (id, name, status, public, created_at, updated_at) "
        "VALUES ('reg_a', 'a', 'active', 0, 5000, 9000)"
    )
    await tx.execute("INSERT INTO blobs (digest, size, key) VALUES ($1, 7, 'a key')", DIGEST)
    await tx.execute(
        "INSERT INTO gc_jobs (id, registry_id, status, phase, started_at) "
        "VALUES ('gc_1', 'reg_a', 'running', 'links', 1)"
    )


async def test_what_was_there_before_goes_on_as_it_was(database: SQLiteDatabase) -> None:
    await database.write(hold)
    await migrate(database)
    assert await scrub.blobs_behind(database, "", 9) == [(DIGEST, 7, "a key", None)]
    assert await blobs.sound_size(database, DIGEST) == 7
    (job,) = await jobs.all_running(database)
    assert (job.id, job.started_by, job.cancelled_by, job.patient, job.asked) == ("gc_1", "", None, False, 1)
    assert await scrub.latest_pass(database) is None
    assert await registries.uncollected(database, 4999, 10000, 9) == []
    assert await registries.uncollected(database, 5000, 10000, 9) == ["reg_a"]
