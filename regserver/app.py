"""The composition root: the only file that names concrete backends, and that says in which order things end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web

import regserver.mgmt.routes
import regserver.oci.routes
import regserver.oci.token
from regserver.auth import admin
from regserver.auth.authenticate import Authenticator
from regserver.auth.authorize import Authorizer
from regserver.auth.keys import KeyRefused, Keys
from regserver.auth.robots import Robots
from regserver.auth.tokens import Tokens
from regserver.config import Settings
from regserver.content.blobs import Blobs
from regserver.content.collector import Collector
from regserver.content.core import Core
from regserver.content.housekeeping import Housekeeping
from regserver.content.jobs import Jobs
from regserver.content.listing import Listing
from regserver.content.manifests import Manifests
from regserver.content.registries import Registries
from regserver.content.uploads import Uploads
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.sql.migrate import MigrationRefused, migrate
from regserver.storage.sql.port import DatabaseFailed
from regserver.storage.sql.sqlite import SQLiteDatabase
from regserver.web import devguard, health, routing
from regserver.web.context import Services

logger = logging.getLogger(__name__)

DATABASE = "catalog.sqlite3"
CANNOT_START = (OSError, DatabaseFailed, StoreFailed, MigrationRefused, KeyRefused)  # each says in a line what to do


def load_admin_token(settings: Settings) -> str:
    return admin.load(settings)


async def create_app(settings: Settings, *, admin_token: str) -> web.Application:
    """The whole registry on ``settings.root``, ready to be run; what it opened closes with the application.

    Raises what the parts raise when the folder cannot be used: OSError, KeyRefused, MigrationRefused, DatabaseFailed.
    """
    async with contextlib.AsyncExitStack() as opened:
        core = await open_core(settings, opened)
        services = await _services(core, admin_token)
        await Housekeeping(core).recover()  # from the tables alone, before the first request
        closing = opened.pop_all()

    app = web.Application(client_max_size=settings.max_manifest_bytes)
    routes = [
        *health.ROUTES,
        *regserver.oci.routes.ROUTES,
        *regserver.oci.token.ROUTES,
        *regserver.mgmt.routes.ROUTES,
    ]
    routing.build(app, services, routes)
    health.install(app)
    if settings.dev:
        app.middlewares.append(devguard.guard)  # innermost: a refusal is rendered like every other

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        async with closing, _background(core):
            yield

    app.cleanup_ctx.append(lifespan)
    return app


async def open_core(settings: Settings, opened: contextlib.AsyncExitStack) -> Core:
    """The store and the catalog, migrated; ``opened`` closes them."""
    database = await _open_database(settings, opened)
    await migrate(database)
    blobs = await FilesystemBlobStore.open(settings.root)
    opened.push_async_callback(blobs.close)
    return Core(database, blobs, settings)


async def _services(core: Core, admin_token: str) -> Services:
    keys = Keys.load(core.settings.root)
    tokens = Tokens(keys, core)
    robots = Robots(keys, core)
    registries = Registries(core, robots)
    return Services(
        settings=core.settings,
        core=core,
        authenticator=Authenticator(core, keys, tokens, robots, admin_token),
        authorizer=Authorizer(core, registries.ensure),
        tokens=tokens,
        robots=robots,
        blobs=Blobs(core),
        uploads=Uploads(core),
        manifests=Manifests(core),
        listing=Listing(core),
        registries=registries,
        jobs=Jobs(core),
    )


@contextlib.asynccontextmanager
async def _background(core: Core) -> AsyncIterator[None]:
    """What goes on beside the requests. It ends before the database closes; what it left, the next start finds."""
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(_watched(Housekeeping(core).run(stop)), name="housekeeping"),
        asyncio.create_task(_watched(Collector(core).sweep()), name="sweep"),
    ]
    try:
        yield
    finally:
        stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watched(work: Coroutine[Any, Any, object]) -> None:
    """Background work may fail without taking requests down with it; somebody must hear of it."""
    try:
        await work
    except Exception:
        logger.exception("background work ended early; the next start takes it up again")


async def _open_database(settings: Settings, opened: contextlib.AsyncExitStack) -> SQLiteDatabase:
    settings.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = await SQLiteDatabase.open(settings.root / DATABASE)
    opened.push_async_callback(database.close)
    return database


async def upgrade(settings: Settings) -> list[str]:
    """`regserver migrate`: the names of what was applied."""
    async with contextlib.AsyncExitStack() as opened:
        return await migrate(await _open_database(settings, opened))


async def rotate_keys(settings: Settings) -> str:
    """`regserver keys rotate`: what a person reads."""
    return Keys.rotate(settings.root)
