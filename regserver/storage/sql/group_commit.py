"""The one writer: a thread that runs waiting transactions together and makes them durable with one COMMIT.

Order of effects: every body of the group → COMMIT, which fsyncs → answers. Nobody learns of a result, nor of a refusal
that may rest on a neighbour's rows, before those rows are durable.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from regserver.storage.sql.patience import is_patient
from regserver.storage.sql.port import DatabaseFailed, Transaction
from regserver.storage.sql.statements import SQLiteTransaction, drive, failure

T = TypeVar("T")

GROUP_LIMIT = 64  # members of one COMMIT: bounds how long the first of them waits
PATIENT_SECONDS = 0.02  # how long a patient transaction waits for one that somebody waits for
QUIET_SECONDS = 1.0  # without a write: then the file is tidied, in slices, where nobody waits for it
FREE_PAGES_PER_SLICE = 1024


Committed = Callable[[int, float], None]


@dataclass(slots=True)
class _Member:
    """A transaction that waits, and what became of it."""

    body: Callable[[Transaction], Awaitable[Any]]
    future: asyncio.Future[Any]
    patient: bool = False
    result: Any = None
    error: BaseException | None = None

    def deliver(self) -> None:
        if self.future.done():  # its waiter was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _TransactionLost(Exception):
    """The engine ended the whole transaction under a member (SQLITE_FULL, IOERR, NOMEM); nothing of it is left."""

    def __init__(self, culprit: _Member) -> None:
        super().__init__()
        self.culprit = culprit


class GroupCommit:
    """Owns the writing connection and its thread. Used from one event loop, the one it was started in."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._path = path
        self._connect = connect
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._untidy = False
        self._committing = False
        self.committed: Committed = lambda members, seconds: None
        self._waiting: SimpleQueue[_Member | None] = SimpleQueue()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a process that dies without close() must not hang in its exit; the log makes that safe.
        self._thread = threading.Thread(target=self._work, name="catalog-writer", daemon=True)

    async def start(self) -> None:
        """Raises DatabaseFailed when the connection cannot be made."""
        self._thread.start()
        await asyncio.shield(self._started)

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        member = _Member(body, self._loop.create_future(), is_patient())
        self._waiting.put(member)
        result: T = await member.future
        return result

    async def stop(self) -> None:
        """Answers everybody who waits, then ends the thread. Nothing may be enqueued after it."""
        self._waiting.put(None)
        await asyncio.shield(self._stopped)
        self._thread.join()

    # ---- in the thread

    def _work(self) -> None:
        try:
            self._connection = self._connect()
        except Exception as error:  # start() raises it
            self._tell(self._started.set_exception, failure(error, self._path))
            return
        self._tell(self._started.set_result, None)
        running = True
        while running:
            group, running = self._take()
            self._run(group)
            self._tell(_deliver, group)
        with suppress(sqlite3.Error):
            self._connection.close()
        self._tell(self._stopped.set_result, None)

    def _take(self) -> tuple[list[_Member], bool]:
        """Waits for one member and takes who waits beside it. False: the last group."""
        member = self._wait()
        group: list[_Member] = []
        while member is not None:
            if not member.future.cancelled():
                group.append(member)
            if len(group) == GROUP_LIMIT:
                return group, True
            try:
                member = self._next(group)
            except Empty:
                return group, True
        return group, False

    def _next(self, group: list[_Member]) -> _Member | None:
        """Who waits already; while all are patient, who comes soon. Raises Empty."""
        if group and all(member.patient for member in group):
            return self._waiting.get(timeout=PATIENT_SECONDS)
        return self._waiting.get_nowait()

    def _wait(self) -> _Member | None:
        while self._untidy:
            try:
                return self._waiting.get(timeout=QUIET_SECONDS)
            except Empty:
                self._tidy()
        return self._waiting.get()

    def _tidy(self) -> None:
        """Folds the log into the file, and gives pages back while more than a quarter of the file is free."""
        self._untidy = False
        try:
            free = self._pragma("freelist_count")
            if free * 4 > self._pragma("page_count"):
                # As a script: execute() takes one step of a statement without columns, which gives back one page.
                with self._turn():
                    self._connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES_PER_SLICE})")
                self._untidy = self._pragma("freelist_count") < free  # a file made without auto_vacuum stays as it is
            self._pragma("wal_checkpoint(PASSIVE)")
        except Exception:  # another process is writing, or the disk fails: the next write will tell
            self._roll_back()

    def _pragma(self, words: str) -> Any:
        return self._connection.execute(f"PRAGMA {words}").fetchall()[0][0]

    def _run(self, group: list[_Member]) -> None:
        """Leaves every member with its outcome and the connection outside any transaction."""
        if not group:
            return
        self._untidy = True
        try:
            self._transact(group)
        except _TransactionLost as lost:
            self._roll_back()
            for member in group:  # alone, so that each meets the full disk for itself, and no more than once
                if member is not lost.culprit:
                    self._run([member])
        except BaseException as error:  # of BEGIN or COMMIT: nothing of the group was kept
            self._roll_back()
            self._write_over()
            for member in group:
                member.error = failure(error, self._path)

    def _write_over(self) -> None:
        """After a COMMIT whose fsync failed: its pages may stand whole in the log, and a process that starts now would
        take them for committed. The next commit takes their place, so here is one that changes nothing."""
        if not self._committing:
            return
        self._committing = False
        with suppress(sqlite3.Error):  # then the disk does not even take this
            self._connection.execute(f"PRAGMA user_version = {self._pragma('user_version')}")

    def _transact(self, group: list[_Member]) -> None:
        began = time.perf_counter()
        with self._turn():
            self._connection.execute("BEGIN IMMEDIATE")
            for member in group:
                self._run_member(member)
            self._committing = True
            self._connection.execute("COMMIT")
            self._committing = False
        self.committed(len(group), time.perf_counter() - began)

    def _run_member(self, member: _Member) -> None:
        """One body behind a savepoint: its error takes back its own statements and no others."""
        member.result = member.error = None
        self._connection.execute("SAVEPOINT member")
        transaction = SQLiteTransaction(self._connection, self._path)
        try:
            member.result = drive(member.body(transaction))
            member.error = transaction.failed
        except BaseException as error:  # its waiter gets it
            member.error = error
        if not self._connection.in_transaction:
            # Going on would commit the next statements one by one.
            member.error = member.error or DatabaseFailed("the engine ended the transaction")
            raise _TransactionLost(member)
        if member.error is not None:
            self._connection.execute("ROLLBACK TO member")
        self._connection.execute("RELEASE member")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _tell(self, callback: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody listens
            self._loop.call_soon_threadsafe(callback, *args)


def _deliver(group: list[_Member]) -> None:
    for member in group:
        member.deliver()
