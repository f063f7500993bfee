"""The composition root: the only file that names concrete backends, and that says in which order things end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

import regserver.console
import regserver.mgmt.routes
import regserver.oci.routes
import regserver.oci.token
from regserver.auth import admin, keys
from regserver.auth.api_tokens import ApiTokens
from regserver.auth.authenticate import Authenticator
from regserver.auth.authorize import Authorizer
from regserver.auth.gate import Gate
from regserver.auth.keys import KeyRefused, Keys
from regserver.auth.robots import Robots
from regserver.auth.sessions import Sessions
from regserver.auth.tokens import Tokens
from regserver.config import ConfigError, Settings
from regserver.content.backup import BackedUp, Backup, Tell
from regserver.content.blobs import Blobs
from regserver.content.clock import Clock
from regserver.content.collector import Collector, Progress
from regserver.content.core import Core
from regserver.content.events import Feed, Told
from regserver.content.figures import Stocktaking
from regserver.content.flushing import Flushing
from regserver.content.housekeeping import Housekeeping
from regserver.content.idempotency import ClaimingDatabase
from regserver.content.jobs import Jobs
from regserver.content.keeping import Keeper, Work, watched
from regserver.content.listing import Listing
from regserver.content.manifests import Manifests
from regserver.content.pace import Slowly, at_once
from regserver.content.purge import Purge
from regserver.content.rebuild import Rebuild, Rebuilt
from regserver.content.registries import Registries
from regserver.content.saving import Saving
from regserver.content.schedule import CollectionSchedule
from regserver.content.scrub import START, Finding, Scrubber
from regserver.content.scrubbing import BackgroundScrub
from regserver.content.uploads import Uploads
from regserver.storage import belonging
from regserver.storage.archives import sync_directory
from regserver.storage.belonging import FolderRefused
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import accounts
from regserver.storage.catalog.scrub import Position, Tally
from regserver.storage.keeper import KeeperLock
from regserver.storage.sql.migrate import Migratable, MigrationRefused, check, migrate
from regserver.storage.sql.port import DatabaseFailed
from regserver.storage.sql.sqlite import SQLiteDatabase
from regserver.storage.sql.turn import Turn
from regserver.web import devguard, health, metrics, routing
from regserver.web.context import Services
from regserver.web.kept import KEPT, Kept

if TYPE_CHECKING:
    from regserver.web.tracing import Tracing

logger = logging.getLogger(__name__)

DATABASE = "catalog.sqlite3"
TURN = "turn"
STOP_SECONDS = 1.0  # for background work to end its step by itself
# Each is one line for a person.
CANNOT_START = (OSError, DatabaseFailed, StoreFailed, MigrationRefused, KeyRefused, FolderRefused)

ROUTES = (
    *health.ROUTES,
    *metrics.ROUTES,
    *regserver.oci.routes.ROUTES,
    *regserver.oci.token.ROUTES,
    *regserver.mgmt.routes.ROUTES,
)


def load_admin_token(settings: Settings) -> str:
    """Raises ConfigError."""
    try:
        return admin.load(settings, os.environ)
    except admin.AdminTokenRefused as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None


async def create_app(settings: Settings, *, admin_token: str) -> web.Application:
    """The whole registry on ``settings.root``, ready to be run; what it opened closes with the application.

    Raises one of CANNOT_START when the folder cannot be used.
    """
    async with contextlib.AsyncExitStack() as opened:
        database = await _open_database(settings, opened)
        await migrate(database)
        blobs = await FilesystemBlobStore.at(settings.root)
        opened.push_async_callback(blobs.close)
        await belonging.claim(settings.root, database, blobs)  # before anything looks for files that no table names
        told = Told(database)
        tracing = _tracing(settings, opened)
        claiming = ClaimingDatabase(told)
        core = Core(claiming if tracing is None else tracing.database(claiming), blobs, settings)
        collector = Collector(core)
        purge = Purge(core, collector)
        services = await _services(core, collector, purge, admin_token, Feed(core, told))
        schedule = CollectionSchedule(core, collector, services.jobs)
        flushing = Flushing(core, flush=[services.api_tokens.flush, services.robots.flush])
        housekeeping = Housekeeping(core, collector)
        await housekeeping.recover()  # from the tables alone, before the first request
        database.committed = core.numbers.committed
        closing = opened.pop_all()

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        keeper = Keeper(
            KeeperLock(settings.root), services.jobs, (housekeeping, purge, services.scrub, schedule, Saving(core))
        )
        async with closing, _background((flushing, services.feed, keeper), services.jobs, database):
            yield

    app = web.Application(client_max_size=settings.max_manifest_bytes)
    routing.build(app, services, metrics.placed(ROUTES, settings))
    health.install(app)
    metrics.install(app)
    if tracing is not None:
        tracing.install(app)
    regserver.console.mount(app)
    if settings.dev:
        app.middlewares.append(devguard.guard)  # innermost: a refusal is rendered like every other
    if settings.kept_answers_bytes and tracing is None and isinstance(database, SQLiteDatabase):
        plain = {} if settings.dev or settings.requests_per_second else app[routing.PLAIN]
        app[KEPT] = Kept(database, app[health.LIFECYCLE], settings.kept_answers_bytes, plain, core.numbers)
        app.on_cleanup.append(app[KEPT].close)
    app.cleanup_ctx.append(lifespan)
    return app


async def _services(core: Core, collector: Collector, purge: Purge, admin_token: str, feed: Feed) -> Services:
    signing = await Keys.load(core.settings.root, core.db)
    tokens = Tokens(signing, core)
    robots, api_tokens = Robots(signing, core), ApiTokens(core)
    registries = Registries(core, robots.create, purge.wake)
    authenticator = Authenticator(core, signing, tokens, robots, admin_token, api_tokens)
    return Services(
        settings=core.settings,
        core=core,
        authenticator=authenticator,
        gate=Gate(core, authenticator),
        authorizer=Authorizer(core, registries.ensure),
        tokens=tokens,
        robots=robots,
        api_tokens=api_tokens,
        blobs=Blobs(core),
        uploads=Uploads(core),
        manifests=Manifests(core),
        listing=Listing(core),
        registries=registries,
        jobs=Jobs(core, collector, runs_here=False),
        scrub=BackgroundScrub(core, collector),
        feed=feed,
        stock=Stocktaking(core),
        sessions=Sessions(core, authenticator),
    )


@contextlib.asynccontextmanager
async def _background(works: Sequence[Work], jobs: Jobs, database: Migratable) -> AsyncIterator[None]:
    """What goes on beside the requests. It ends before the database closes; what it left, the next start finds."""
    stop = asyncio.Event()
    tasks = {asyncio.create_task(watched(work)) for work in (database.check(), *(work.run(stop) for work in works))}
    try:
        yield
    finally:
        stop.set()
        await jobs.close()
        _, unfinished = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


async def _open_database(settings: Settings, opened: contextlib.AsyncExitStack) -> Migratable:
    settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.database is None:
        belonging.refuse_without(settings.root, DATABASE)  # before a new file stands in the place of the lost one
        turn: Callable[[], AbstractContextManager[None]] = nullcontext
        if settings.workers > 1:
            row = Turn(settings.root / TURN)
            opened.callback(row.close)
            turn = row.taken
        database: Migratable = await SQLiteDatabase.open(settings.root / DATABASE, turn)
    else:
        database = await _open_postgres(settings.database)
    opened.push_async_callback(database.close)
    return database


def _tracing(settings: Settings, opened: contextlib.AsyncExitStack) -> Tracing | None:
    """Raises ConfigError without the library, which only traces need."""
    if not settings.otel:
        return None
    try:
        from regserver.web import tracing
    except ImportError:
        raise ConfigError("--otel needs a library: pip install 'regserver[otel]'") from None
    found = tracing.Tracing(tracing.make_provider())
    opened.push_async_callback(asyncio.to_thread, found.close)
    return found


async def _open_postgres(url: str) -> Migratable:
    """Raises ConfigError without the driver, which only this engine needs."""
    try:
        from regserver.storage.sql.postgres import PostgresDatabase
    except ImportError:
        raise ConfigError("--database needs a driver: pip install 'regserver[postgres]'") from None
    return await PostgresDatabase.open(url)


async def upgrade(settings: Settings) -> list[str]:
    """`regserver migrate`: the names of what was applied."""
    async with contextlib.AsyncExitStack() as opened:
        return await migrate(await _open_database(settings, opened))


async def scrub(
    settings: Settings,
    found: Callable[[Finding], None],
    tell: Callable[[Progress], None],
    *,
    bytes_per_second: int = 0,
    dry_run: bool = False,
    accept_missing: bool = False,
) -> Tally:
    """`regserver scrub`: one whole pass; safe while a server runs on the same folder, which serves what it finds rotten
    no longer. Raises ConfigError where there is no registry, and CANNOT_START where the disk fails."""
    _require_registry(settings)
    async with contextlib.AsyncExitStack() as opened:
        database = await _open_database(settings, opened)
        await migrate(database)
        blobs = await FilesystemBlobStore.at(settings.root)
        opened.push_async_callback(blobs.close)
        core = Core(database, blobs, settings)
        pace = Slowly(bytes_per_second, asyncio.Event(), late=math.inf) if bytes_per_second else at_once
        scrubber = Scrubber(core, Collector(core), pace, found, tell, dry_run=dry_run, accept_missing=accept_missing)
        await scrubber.measure()
        position: Position | None = START
        while position is not None:
            position = await scrubber.step(position)
        return scrubber.tally


def _require_registry(settings: Settings) -> None:
    if not (settings.root / (belonging.FILE if settings.database else DATABASE)).exists():
        raise ConfigError(f"{settings.root}: there is no registry in this folder")


def _require_sqlite(settings: Settings, instead: str) -> None:
    if settings.database is not None:
        raise ConfigError(f"the catalog is on a PostgreSQL server, which has its own tools: use {instead}")


async def back_up(settings: Settings, file: Path, since: Path | None, tell: Tell) -> BackedUp:
    """`regserver backup`; made for while a server runs on the same folder. Raises ConfigError where there is none."""
    _require_registry(settings)
    _require_sqlite(settings, "pg_dump and a copy of blobs/ made after it")
    async with contextlib.AsyncExitStack() as opened:
        database = await _open_database(settings, opened)
        await check(database)  # a server of an older version may be running: nothing is migrated under it
        blobs = FilesystemBlobStore(settings.root)
        opened.push_async_callback(blobs.close)
        return await Backup(Core(database, blobs, settings), settings.root / DATABASE, tell).write(file, since)


async def rebuild(settings: Settings, copy: Path, tell: Tell) -> Rebuilt:
    """`regserver rebuild`: the catalog comes into the root when it is whole. Raises ConfigError where one is there."""
    _require_sqlite(settings, "a dump of the database")
    # A log that is left beside a new database would be taken for its own.
    if left := sorted(settings.root.glob(f"{DATABASE}*")):
        raise ConfigError(f"{left[0]} is there; move all of {DATABASE}* to another folder first")
    folder = settings.root / f".rebuild-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    try:
        async with contextlib.AsyncExitStack() as opened:
            database = await SQLiteDatabase.open(folder / DATABASE)
            opened.push_async_callback(database.close)
            await migrate(database)
            await database.write(accounts.establish)
            blobs = FilesystemBlobStore(settings.root)
            opened.push_async_callback(blobs.close)
            core = Core(database, blobs, settings)
            await Clock(core).tick()
            robots = Robots(await Keys.load(settings.root, database), core)
            done = await Rebuild(core, robots.create, tell).run(copy)
        (settings.root / belonging.FILE).unlink(missing_ok=True)  # it names the catalog that is lost
        (settings.root / DATABASE).hardlink_to(folder / DATABASE)  # fails where another has come meanwhile
        sync_directory(settings.root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done


async def rotate_keys(settings: Settings) -> keys.Rotation:
    """`regserver keys rotate`; safe while a server runs on the same folder. Raises ConfigError where there is none."""
    _require_registry(settings)
    async with contextlib.AsyncExitStack() as opened:
        database = await _open_database(settings, opened)
        await migrate(database)
        await belonging.check(settings.root, database)
        return await keys.rotate(settings.root, database, token_seconds=settings.token_seconds)
