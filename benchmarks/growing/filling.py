"""Repositories by the thousand, copied row by row from one that was pushed: what as many pushes would have left."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import NotMeasured
from benchmarks.servers import REPOSITORY

NUMBERED = "WITH RECURSIVE numbers(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
# What a repository of one image consists of, each table before those that refer to it.
TABLES = ("repository_blobs", "manifests", "manifest_blobs", "tags")


def name_of(number: int) -> str:
    return f"{REPOSITORY}-{number}"


def copy_repository(catalog: Path, first: int, last: int) -> None:
    """The repository that is there as numbers ``first`` to ``last``. Raises NotMeasured where the catalog is not what
    this was written for."""
    name = REPOSITORY.partition("/")[2]
    try:
        with contextlib.closing(sqlite3.connect(catalog, timeout=60)) as database, database:
            ((source, top),) = database.execute(
                "SELECT id, (SELECT max(id) FROM repositories) FROM repositories WHERE name = ?", (name,)
            )
            others = _columns(database, "repositories", ("id", "name"))
            database.execute(
                f"{NUMBERED} INSERT INTO repositories (id, name, {others}) "
                f"SELECT {top} + 1 + n - {first}, '{name}-' || n, {others} FROM numbers, repositories "
                f"WHERE repositories.id = {source}",
                (first, last),
            )
            for table in TABLES:
                others = _columns(database, table, ("repository_id",))
                database.execute(
                    f"{NUMBERED} INSERT INTO {table} (repository_id, {others}) "
                    f"SELECT {top} + 1 + n - {first}, {others} FROM numbers, {table} WHERE repository_id = {source}",
                    (first, last),
                )
    except (sqlite3.Error, ValueError) as error:
        raise NotMeasured(f"repositories cannot be laid into regserver's catalog: {error}") from error


def _columns(database: sqlite3.Connection, table: str, but: Sequence[str]) -> str:
    known = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
    return ", ".join(column for column in known if column not in but)
