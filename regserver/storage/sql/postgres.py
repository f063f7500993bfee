"""The PostgreSQL engine: serialisable transactions on pooled connections, run again where they met another.

Order of effects of a write: BEGIN → the turnstile → body → COMMIT, which is durable → answer. What the server refused
because of a neighbour (a serialisation failure, a deadlock, a constraint that a neighbour's row may have tripped) is
not believed: the body runs again, and at the last behind a turnstile that lets nobody else in, where it meets no one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, TypeVar

import asyncpg

from regserver.storage.sql.port import DatabaseFailed, IntegrityFailed, Reader, Row, Transaction

T = TypeVar("T")

READERS, WRITERS = 8, 8  # connections at the most; readers never wait for a writer's
OLDEST_SERVER = 150000
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # no reading statement takes that long; what does waits for a machine that is gone
IDLE_SECONDS = 300.0  # what was silent for longer may have been dropped on the way, unnoticed
LOST_TRIES = 3  # a connection that was idle while the server restarted is known to be dead only when it is used
TRIES_BESIDE_OTHERS = 3
LOCK_ID = 0x7265_6773  # of the advisory lock, "regs"

_TURNSTILE = "regserver_turnstile"
_LOCK = f"SELECT pg_advisory_lock({LOCK_ID})"
_UNLOCK = f"SELECT pg_advisory_unlock({LOCK_ID})"
_IN_ORDER = f"SELECT pg_advisory_xact_lock({LOCK_ID + 1})"
_FACTS = """
SELECT current_setting('server_version_num'), current_setting('server_encoding'), current_setting('fsync'),
       to_regclass($1)::text
"""
# A server whose default is to answer before the log is on disk is asked to wait; one that waits for more keeps waiting.
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"

_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"
# LOCK TABLE takes no snapshot: the transaction's is taken after it has passed, by its first statement.
_BESIDE_OTHERS = f"{_BEGIN_WRITE}; LOCK TABLE {_TURNSTILE} IN ROW SHARE MODE"
_ALONE = f"{_BEGIN_WRITE}; LOCK TABLE {_TURNSTILE} IN EXCLUSIVE MODE"

_SESSION = {
    "application_name": "regserver",
    "default_transaction_read_only": "on",  # so fetch() cannot write; write() says READ WRITE
    "idle_in_transaction_session_timeout": "60s",  # a process that hangs holds nobody up for longer
    # Every statement has its index. A small table read from end to end would count as read whole by a serialisable
    # transaction, and everybody who writes a row of it would be in its way.
    "enable_seqscan": "off",
    "jit": "off",
}
_LOST = (
    ConnectionError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the driver, where the end of a connection overtakes its first statement
)
_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Of a schema that another process has migrated in between, the driver forgets its statements and asks to be run again.
_MET_ANOTHER = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.IntegrityConstraintViolationError,
)


class _RunAgain(Exception):
    """Nothing of this run was kept, and the next may end differently."""


def failure(error: BaseException) -> DatabaseFailed:
    """What the port calls an error of the engine or of the driver. Its text holds no value, no address, no password."""
    if isinstance(error, DatabaseFailed):
        return error
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return IntegrityFailed(str(error.message))
    if isinstance(error, asyncpg.PostgresError):
        full = isinstance(error, asyncpg.DiskFullError)
        return DatabaseFailed(f"{type(error).__name__}: {error.message}", full=full)
    if isinstance(error, OSError | TimeoutError):
        return DatabaseFailed(f"the PostgreSQL server cannot be reached ({type(error).__name__})")
    if isinstance(error, asyncpg.ClientConfigurationError | ValueError):
        return DatabaseFailed("the PostgreSQL driver cannot use the URL that --database names; check its parameters")
    return DatabaseFailed(f"{type(error).__name__} of the PostgreSQL driver")


class PostgresTransaction:
    """The statements of one body. After one has failed, every later one fails alike and the body's result does not
    count, whatever the body caught."""

    __slots__ = ("_connection", "_last", "failed")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._last: list[tuple[str, tuple[Any, ...]]] = []
        self.failed: BaseException | None = None

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return [tuple(row) for row in await self._run(self._connection.fetch, sql, args)]

    async def execute(self, sql: str, *args: Any) -> int:
        status: str = await self._run(self._connection.execute, sql, args)
        count = status.rpartition(" ")[2]  # "INSERT 0 1", "DELETE 3", "CREATE TABLE"
        return int(count) if count.isdigit() else 0

    async def at_commit(self, sql: str, *args: Any) -> None:
        self._last.append((sql, args))

    async def end(self) -> None:
        """What was put off until the end, behind a lock that the COMMIT gives back, and that everybody takes last: who
        has it waits for nobody."""
        if self._last:
            await self._run(self._connection.execute, _IN_ORDER, ())
        for sql, args in self._last:
            await self.execute(sql, *args)

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    async def _run(self, statement: Callable[..., Awaitable[Any]], sql: str, args: tuple[Any, ...]) -> Any:
        if self.failed is not None:
            raise failure(self.failed)
        try:
            return await statement(sql, *args)
        except _ERRORS as error:
            self.failed = error
            raise failure(error) from error


class PostgresDatabase:
    """A ``Database`` (see the port) on a server. Used from the event loop that opened it; any number of processes may
    use the same database."""

    templates: ClassVar = {
        "{TEXT}": 'TEXT COLLATE "C"',
        "{BYTES}": "BYTEA",
        "{ID}": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "{CLUSTERED}": "",
    }

    def __init__(self, url: str) -> None:
        self._readers = _Connections(url, READERS, READ_SECONDS)
        self._writers = _Connections(url, WRITERS, None)
        self._running: set[asyncio.Task[Any]] = set()
        self._again = asyncio.Lock()
        self._closed = False
        self.committed: Callable[[int, float], None] = lambda members, seconds: None

    @classmethod
    async def open(cls, url: str) -> PostgresDatabase:
        """Connects, and makes the turnstile the first time; migrates nothing.

        Raises DatabaseFailed when the server cannot be reached, refuses, or cannot keep what a registry needs kept.
        """
        database = cls(url)
        try:
            async with database._writers.borrowed() as connection:
                await _prepare(connection)
        except (*_ERRORS, ValueError) as error:
            await database.close()
            raise failure(error) from error
        except DatabaseFailed:
            await database.close()
            raise
        return database

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        self._check_open()

        async def statement(connection: Any) -> list[Row]:
            return [tuple(row) for row in await connection.fetch(sql, *args)]

        return await self._on_a_reader(statement)

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        self._check_open()
        return await self._follow(self._read(body))

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        self._check_open()
        return await self._follow(self._write(body))

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[None]:
        """Nobody else migrates this database inside."""
        self._check_open()
        try:
            async with self._writers.borrowed() as connection:
                await connection.fetch(_LOCK)
                try:
                    yield
                finally:
                    await connection.fetch(_UNLOCK)
        except _ERRORS as error:
            raise failure(error) from error

    async def check(self) -> None:
        """Nothing: the server verifies its pages itself (``data_checksums``)."""

    async def close(self) -> None:
        """Ends what waits, then disconnects. Everything after it raises DatabaseFailed."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await self._readers.close()
        await self._writers.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseFailed("the database is closed")

    async def _follow(self, work: Coroutine[Any, Any, T]) -> T:
        """In a task of its own: a waiter that goes away does not stop it halfway, and ``close`` knows of it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its waiter may be gone

    async def _read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        async def snapshot(connection: Any) -> T:
            async with _rolled_back(connection) as transaction:
                try:
                    await transaction.execute(_BEGIN_READ)
                    return await body(transaction)
                except DatabaseFailed:
                    transaction.check()
                    raise

        return await self._on_a_reader(snapshot)

    async def _on_a_reader(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """It only reads, so while another connection can be had a lost one is no reason to fail."""
        tries = 0
        while True:
            tries += 1
            try:
                async with self._readers.borrowed() as connection:
                    return await work(connection)
            except _ERRORS as error:
                if not _is_lost(error) or tries == LOST_TRIES:
                    raise failure(error) from error

    async def _write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        with suppress(_RunAgain):
            return await self._try(body, alone=False)
        async with self._again:  # a crowd that met at one row would meet there again; this is for speed alone
            for _ in range(TRIES_BESIDE_OTHERS - 1):
                with suppress(_RunAgain):
                    return await self._try(body, alone=False)
            return await self._try(body, alone=True)

    async def _try(self, body: Callable[[Transaction], Awaitable[T]], *, alone: bool) -> T:
        try:
            async with self._writers.borrowed() as connection:
                began = time.perf_counter()
                result = await _transact(connection, body, alone)
                self.committed(1, time.perf_counter() - began)
                return result
        except _ERRORS as error:
            raise failure(error) from error


async def _transact(connection: Any, body: Callable[[Transaction], Awaitable[T]], alone: bool) -> T:
    """Raises _RunAgain, or the error."""
    async with _rolled_back(connection) as transaction:
        try:
            await transaction.execute(_ALONE if alone else _BESIDE_OTHERS)
            result = await body(transaction)
            transaction.check()
            await transaction.end()
        except Exception as error:
            cause = transaction.failed or error
            if not alone and (isinstance(cause, _MET_ANOTHER) or _is_lost(cause)):
                raise _RunAgain from cause
            raise
        try:
            await _commit(connection)
        except _MET_ANOTHER as error:
            if not alone:
                raise _RunAgain from error
            raise
        return result


@asynccontextmanager
async def _rolled_back(connection: Any) -> AsyncIterator[PostgresTransaction]:
    """What the block begins and does not commit is rolled back."""
    try:
        yield PostgresTransaction(connection)
    finally:
        with suppress(*_ERRORS):  # its connection is lost, and with it the transaction
            await _roll_back(connection)


async def _commit(connection: Any) -> None:
    """Lost here, it may have been done: that is told, not tried again."""
    await connection.execute("COMMIT")


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, _LOST) and not isinstance(error, ValueError)  # of the arguments, says the driver


class _Connections:
    """So many at the most, kept open, each lent to one at a time. ``seconds``: the longest that a statement may take.

    Simpler than the driver's pool and half as dear: nothing is reset, for everybody gives back what is settled.
    """

    def __init__(self, url: str, most: int, seconds: float | None) -> None:
        self._url = url
        self._most = most
        self._seconds = seconds
        self._slots = asyncio.Semaphore(most)
        self._free: list[tuple[Any, float]] = []  # and since when; who came back last goes first

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Any]:
        async with self._slots:
            connection = await self._take()
            try:
                yield connection
            except asyncio.CancelledError:
                connection.terminate()  # in the middle of a statement
                raise
            finally:
                if connection.is_closed() or connection.is_in_transaction():
                    connection.terminate()
                else:
                    self._free.append((connection, time.monotonic()))

    async def _take(self) -> Any:
        while self._free:
            connection, since = self._free.pop()
            if not connection.is_closed() and time.monotonic() - since < IDLE_SECONDS:
                return connection
            connection.terminate()
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=self._seconds,
            server_settings=_SESSION,
            statement_cache_size=1024,  # every statement of the catalog stays prepared
            max_cached_statement_lifetime=0,
        )
        try:
            await connection.fetch(_DURABLE)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        """When the last one has come back. Closing again does nothing."""
        for _ in range(self._most):
            await self._slots.acquire()
        while self._free:
            connection, _ = self._free.pop()
            with suppress(*_ERRORS):
                await connection.close(timeout=CONNECT_SECONDS)
        for _ in range(self._most):
            self._slots.release()


async def _roll_back(connection: Any) -> None:
    """Unless nothing is open."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def _prepare(connection: Any) -> None:
    """Refuses a server that cannot keep what is given to it; makes the turnstile."""
    ((version, encoding, fsync, turnstile),) = await connection.fetch(_FACTS, _TURNSTILE)
    if int(version) < OLDEST_SERVER:
        raise DatabaseFailed(f"the PostgreSQL server is too old: it must be {OLDEST_SERVER // 10000} or newer")
    if encoding != "UTF8":
        raise DatabaseFailed(f"the database is encoded in {encoding}; create one with ENCODING 'UTF8'")
    if fsync != "on":
        raise DatabaseFailed("the PostgreSQL server runs with fsync=off and may lose what it acknowledged; turn it on")
    if turnstile is None:
        await connection.fetch(_LOCK)
        await connection.execute(f"BEGIN READ WRITE; CREATE TABLE IF NOT EXISTS {_TURNSTILE} (); COMMIT")
        await connection.fetch(_UNLOCK)
