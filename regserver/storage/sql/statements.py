"""SQLite's statements: how arguments are bound, how errors are named, how a body is driven to its end in a thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from regserver.storage.sql.port import DatabaseDamaged, DatabaseFailed, IntegrityFailed, Row

T = TypeVar("T")

_PARAMETERS = tuple(str(number) for number in range(1, 1000))
_NO_ROOM_BYTES = 64 * 1024
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class BodySuspended(RuntimeError):
    """A transaction's body awaited something besides its transaction. A fault of the program; nothing was kept."""


def bind(args: tuple[Any, ...]) -> dict[str, Any]:
    """Arguments by the number in their placeholder: bound as a sequence, SQLite would go by order of appearance."""
    return dict(zip(_PARAMETERS, args, strict=False))


def failure(error: BaseException, path: Path) -> DatabaseFailed:
    """What the port calls an error of the engine. Its text holds names of tables and columns, never values."""
    if isinstance(error, DatabaseFailed):
        return error
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityFailed(str(error))
    if _primary_code(error) in _DAMAGE:
        return damage(str(error))
    return DatabaseFailed(f"{type(error).__name__}: {error}", full=_is_full(error, path))


def damage(found: str) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"the catalog is damaged ({found}) and takes no writes any more; stop the server, keep a copy of its folder, "
        "check the disk, and restore the catalog from a backup; without one, move it away and run: regserver rebuild"
    )


def is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def _is_full(error: BaseException, path: Path) -> bool:
    """SQLite says FULL for a write without space, but IOERR where the shared index or an fsync found none."""
    code = _primary_code(error)
    if code != sqlite3.SQLITE_IOERR:
        return code == sqlite3.SQLITE_FULL
    try:
        volume = os.statvfs(path.parent)
    except OSError:
        return False
    return volume.f_bavail * volume.f_frsize < _NO_ROOM_BYTES


def _primary_code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)  # absent where the driver itself refused
    return code & 0xFF  # the low byte of an extended result code is the primary one


def drive(body: Awaitable[T]) -> T:
    """Runs an awaitable that never suspends, here and now. Raises what it raises, or BodySuspended."""
    steps = body.__await__()
    try:
        steps.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    steps.close()
    raise BodySuspended("a transaction's body may await nothing but its transaction")


class SQLiteTransaction:
    """The statements of one body, on the connection of its thread.

    After a statement failed, every later one fails alike and the body's result does not count, whatever the body
    caught: what the engine did to the transaction is then unknown.
    """

    __slots__ = ("_connection", "_path", "failed")

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.failed: DatabaseFailed | None = None

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return self._run(sql, args)

    async def execute(self, sql: str, *args: Any) -> int:
        before = self._connection.total_changes  # a cursor's rowcount is -1 for WITH … DELETE
        self._run(sql, args)
        return self._connection.total_changes - before

    async def at_commit(self, sql: str, *args: Any) -> None:
        self._run(sql, args)  # of a file's one writer, transactions never stand in another order

    def _run(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        if self.failed is not None:
            raise self.failed
        try:
            return self._connection.execute(sql, bind(args)).fetchall()
        except sqlite3.Error as error:
            self.failed = failure(error, self._path)
            raise self.failed from error
