"""The port for an SQL engine. The Catalog above it is one concrete thing; only this is implemented twice.

Statements use ``$1`` placeholders and the dialect that SQLite and PostgreSQL share. Rows are tuples. Times are integer
milliseconds or epochs; booleans are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

Row = tuple[Any, ...]
T = TypeVar("T")


class DatabaseFailed(Exception):
    """The engine could not run or commit a transaction; nothing of it was kept. ``full``: no space."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class IntegrityFailed(DatabaseFailed):
    """A constraint held against a statement: the backstop. The transaction has no effect."""


class DatabaseDamaged(DatabaseFailed):
    """What is stored contradicts itself. Nothing is written to it any more; the message says how to go on."""


class Reader(Protocol):
    """What a statement that only reads needs; a Database and a Transaction both are one."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]: ...


class Transaction(Reader, Protocol):
    async def execute(self, sql: str, *args: Any) -> int:
        """Runs a statement and returns how many rows it changed."""

    async def at_commit(self, sql: str, *args: Any) -> None:
        """Runs a statement where transactions stand in the order of their commits: an identity that is drawn in it is
        greater than any that was committed before, and than none that will be. Nothing that follows in the body sees
        what it does."""


class Database(Reader, Protocol):
    """``fetch`` is one statement on committed state, answered on the spot (SQLite: in the loop thread, microseconds).

    A body awaits nothing but its transaction, and may run again: its only effects are its statements and its result.
    """

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        """Runs the body on one snapshot."""

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs the body as one serialisable transaction and returns after its COMMIT is durable.

        An exception of the body rolls back and passes through. Raises DatabaseFailed, IntegrityFailed."""

    async def close(self) -> None: ...
