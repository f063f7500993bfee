"""Migrations: numbered files, each applied once, in one transaction together with the row that says so.

Engine-neutral: what differs per engine are the words in ``templates``. A file that was ever released is never changed;
a change of the schema is a new file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from regserver.model.times import now_ms
from regserver.storage.sql.port import Database, Transaction

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_PIECE = re.compile(r"--[^\n]*|'(?:[^']|'')*'|[^';-]+|.", re.DOTALL)

_CREATE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY,
    name {TEXT} NOT NULL,
    checksum {TEXT} NOT NULL,
    applied_at BIGINT NOT NULL
)
"""
_APPLIED = "SELECT number, name, checksum FROM schema_migrations ORDER BY number"
_RECORD = "INSERT INTO schema_migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)"


class MigrationRefused(Exception):
    """This code and that database do not go together; nothing was changed. The text says what to do."""


class Migratable(Database, Protocol):
    """A database as its owner holds it: what only a start asks of it."""

    committed: Callable[[int, float], None]  # hears of every COMMIT: how many transactions, in how many seconds

    @property
    def templates(self) -> Mapping[str, str]:
        """What stands for ``{TEXT}``, ``{BYTES}``, ``{ID}`` and ``{CLUSTERED}`` in this engine."""

    def migrating(self) -> AbstractAsyncContextManager[None]:
        """Inside, nobody else migrates the same database."""

    async def check(self) -> None:
        """Looks for damage that reading would meet only by chance. What it finds is logged, and ends the writing."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file as it is shipped, before an engine's words are filled in."""
        return hashlib.sha256(self.text.encode()).hexdigest()


async def migrate(database: Migratable, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Applies what is missing, in order, and returns the names. Any number of processes may do this at once.

    Raises MigrationRefused, DatabaseFailed; the files applied before that stay.
    """
    shipped = load() if migrations is None else migrations
    applied: list[str] = []
    async with database.migrating():
        while (name := await _apply_next(database, shipped)) is not None:
            applied.append(name)
    return applied


async def check(database: Database) -> None:
    """Raises MigrationRefused unless the catalog is exactly of this version. Changes nothing."""
    recorded = [(int(number), str(name), str(checksum)) for number, name, checksum in await database.fetch(_APPLIED)]
    if _next(load(), recorded) is not None:
        raise MigrationRefused("the catalog is older than this version of regserver; run: regserver migrate")


def load() -> list[Migration]:
    """The files of this package, in order. Read as resources, so a wheel or a zip serves as well as a folder."""
    folder = resources.files("regserver.storage.sql").joinpath("migrations")
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


def statements(text: str, templates: Mapping[str, str]) -> list[str]:
    """The statements of a file in an engine's words. Semicolons separate them, except in '…' and after ``--``."""
    parts = [""]
    for piece in _PIECE.findall(text):
        if piece == ";":
            parts.append("")
        elif not piece.startswith("--"):
            parts[-1] += piece
    return [_fill(part, templates).strip() for part in parts if part.strip()]


def _fill(text: str, templates: Mapping[str, str]) -> str:
    for word, meaning in templates.items():
        text = text.replace(word, meaning)
    return text


async def _apply_next(database: Migratable, shipped: Sequence[Migration]) -> str | None:
    async def body(tx: Transaction) -> str | None:
        await tx.execute(_fill(_CREATE, database.templates))
        recorded = [(int(number), str(name), str(checksum)) for number, name, checksum in await tx.fetch(_APPLIED)]
        migration = _next(shipped, recorded)  # inside the transaction: another process may have been here first
        if migration is None:
            return None
        for statement in statements(migration.text, database.templates):
            await tx.execute(statement)
        await tx.execute(_RECORD, migration.number, migration.name, migration.checksum, now_ms())
        return f"{migration.number:04}_{migration.name}"

    return await database.write(body)


def _next(shipped: Sequence[Migration], recorded: Sequence[tuple[int, str, str]]) -> Migration | None:
    """The first file that the database lacks. What it has must be exactly the files before that one."""
    if [migration.number for migration in shipped] != list(range(1, len(shipped) + 1)):
        raise MigrationRefused("this installation's migrations are not numbered 1, 2, 3, …; install regserver again")
    if recorded and recorded[-1][0] > len(shipped):
        number, name, _ = recorded[-1]
        raise MigrationRefused(
            f"the database has migration {number:04}_{name}, this version of regserver knows only {len(shipped)}; "
            "start the version that wrote it or a newer one, or restore a backup made before the upgrade"
        )
    for migration, (number, name, checksum) in zip(shipped, recorded, strict=False):
        if number != migration.number:
            raise MigrationRefused(
                f"the database lacks migration {migration.number:04} but has {number:04}; restore it from a backup"
            )
        if checksum != migration.checksum:
            raise MigrationRefused(
                f"migration {number:04}_{name} was applied with other contents than this version of regserver ships; "
                "start the version that wrote the database, or restore a backup"
            )
    return shipped[len(recorded)] if len(recorded) < len(shipped) else None
