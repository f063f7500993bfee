"""The server and its PostgreSQL are killed together, again and again. What was acknowledged is there afterwards."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support import postgres
from support.crowd import Crowd, check, collect_everything, ready
from support.ledger import Ledger
from support.registry import on_database, served_process

ROUNDS = max(3, int(os.environ.get("CRASH_ROUNDS", "50")) // 10)
PUSHERS, DELETERS = 8, 3
WORK_SECONDS = (1.0, 2.5)  # the first pushes after a start are the slowest
UNNAMED = "SELECT key FROM blobs UNION SELECT key FROM uploads UNION SELECT key FROM trash"
LOOSE = """
SELECT key FROM blobs WHERE digest NOT IN (SELECT digest FROM repository_blobs)
AND digest NOT IN (SELECT digest FROM blob_leases)
"""


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(3600)
async def test_what_was_acknowledged_survives_the_death_of_both_servers(tmp_path: Path) -> None:
    database = postgres.Server()
    ledger, root = Ledger(), on_database(tmp_path / "root", database.url())
    crowd = Crowd(ledger, random.Random(20261124))
    try:
        for _ in range(ROUNDS):
            with served_process(root, "--dev") as server:

                def kill(server: object = server) -> None:
                    server.process.kill()  # type: ignore[attr-defined]
                    database.stop("immediate")  # without a checkpoint: it starts from its log

                await ready(server.url)
                await check(server.url, ledger)
                await crowd.work_until_killed(
                    server.url, kill, pushers=PUSHERS, deleters=DELETERS, seconds=WORK_SECONDS
                )
                server.process.wait()
            database.start()
        with served_process(root, "--dev") as server:
            await ready(server.url)
            await check(server.url, ledger)
            await collect_everything(server.url, ledger)
        named, blobs = (set(database.sql(sql).split()) for sql in (UNNAMED, "SELECT key FROM blobs"))
        found = {file.name for folder in ("blobs", "uploads") for file in (root / folder).rglob("*") if file.is_file()}
        keys = {name.rpartition(".")[2] for name in found}
        assert blobs <= keys, "I1: a blob without its file"
        assert keys <= named, "I5: a file that nothing names"
        assert database.sql(LOOSE).split() == [], "I5: a blob that nothing holds"
    finally:
        database.remove()
    assert ledger.pushes > ROUNDS, "there was something to lose"
