"""Copies of a catalog in one file: made by SQLite's online backup API while others write, and read where they lie."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from regserver.storage.sql.port import DatabaseFailed, Transaction
from regserver.storage.sql.statements import SQLiteTransaction, failure

PAGES = 2000  # per step: about 8 MB between two looks at whoever wants to stop
BUSY_SECONDS = 10.0

Tell = Callable[[int, int], None]  # (pages done, pages in all); what it raises ends the copy


def copy(source: Path, target: Path, tell: Tell) -> None:
    """Copies one committed state of the catalog ``source``, which some connection of this process holds open.

    The state is pinned by a read transaction: without it the API begins again whenever somebody else has written, and
    under load would never end. ``target`` is 0600 and one file, without a log. Raises DatabaseFailed.
    """
    target.touch(mode=0o600, exist_ok=False)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as origin,
            closing(sqlite3.connect(target, isolation_level=None)) as made,
        ):
            origin.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM schema_migrations").fetchall()  # the snapshot is taken by a read
            origin.backup(made, pages=PAGES, progress=lambda _, left, total: tell(total - left, total), sleep=0)
            origin.execute("ROLLBACK")
            made.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise failure(error, target) from error


@contextmanager
def changing(path: Path) -> Iterator[Transaction]:
    """A copy, to be changed in one transaction; used in this thread alone, by bodies that await nothing else."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            yield SQLiteTransaction(connection, path)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise failure(error, path) from error


@contextmanager
def reading(path: Path) -> Iterator[Transaction]:
    """A copy that nobody changes, to be read in this thread."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as opened:
            yield SQLiteTransaction(opened, path)
    except sqlite3.Error as error:
        raise failure(error, path) from error


def verify(path: Path, *, quick: bool = False) -> None:
    """Reads every page and index of a copy, and every foreign key. Raises DatabaseFailed with what is wrong first.

    ``quick`` does not compare indexes with their tables, and may look at a catalog that is in use. Where there is no
    log, nobody has it open, and looking makes none."""
    mode = "mode=ro" if not quick or path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)) as opened:
            found = opened.execute("PRAGMA quick_check(1)" if quick else "PRAGMA integrity_check(1)").fetchone()
            if found != ("ok",):
                raise DatabaseFailed(f"the catalog is damaged: {found[0] if found else 'no answer'}")
            broken = opened.execute("PRAGMA foreign_key_check").fetchone()
            if broken is not None:
                raise DatabaseFailed(f"the catalog is damaged: a row of {broken[0]} refers to nothing in {broken[2]}")
    except sqlite3.Error as error:
        raise failure(error, path) from error
