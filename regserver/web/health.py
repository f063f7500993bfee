"""`/healthz` and `/readyz`: may it go on living, should it be sent requests. Open, small, JSON."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from regserver.content.core import Core
from regserver.model.access import Access
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import readiness
from regserver.storage.sql.port import DatabaseDamaged, DatabaseFailed
from regserver.web.context import Call, Route

CHECK_SECONDS = 1.0


@dataclass(slots=True)
class Lifecycle:
    """How many requests run, and whether the process is on its way out. About this process only."""

    running: int = 0
    draining: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    check: asyncio.Task[list[str]] | None = None

    async def drain(self) -> None:
        """Not ready from now on; returns when no request runs."""
        self.draining = True
        if self.running:
            self.idle.clear()
            await self.idle.wait()


LIFECYCLE = web.AppKey("lifecycle", Lifecycle)


def install(app: web.Application) -> None:
    app[LIFECYCLE] = Lifecycle()
    app.middlewares.insert(0, _count)  # outermost: everything that a request does counts as running
    app.on_response_prepare.append(_part)


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    lifecycle = request.app[LIFECYCLE]
    lifecycle.running += 1
    try:
        return await handler(request)
    finally:
        lifecycle.running -= 1
        if lifecycle.draining and not lifecycle.running:
            lifecycle.idle.set()


async def _part(request: web.Request, response: web.StreamResponse) -> None:
    """A connection that outlives its request would be cut at the end of the drain; say so while there is a way."""
    if request.app[LIFECYCLE].draining:
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"


async def live(request: web.Request, call: Call) -> web.Response:
    return _answer([])


async def ready(request: web.Request, call: Call) -> web.Response:
    """200, or 503 with every reason. However many ask at once, the disk is asked once."""
    lifecycle = request.app[LIFECYCLE]
    if lifecycle.check is None or lifecycle.check.done():
        lifecycle.check = asyncio.create_task(reasons(call.services.core), name="readiness")
    found = list(await asyncio.shield(lifecycle.check))
    if lifecycle.draining:
        found.append("shutting down")
    return _answer(found)


def _answer(found: list[str]) -> web.Response:
    body = {"status": "unavailable", "reasons": found} if found else {"status": "ok"}
    return web.json_response(body, status=503 if found else 200, headers={hdrs.CACHE_CONTROL: "no-store"})


async def reasons(core: Core) -> list[str]:
    """Why this process should get no requests; empty if it should."""
    found = [core.health.failure, await _database(core), await _disk(core)]
    return [reason for reason in found if reason]


async def _database(core: Core) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await core.db.write(readiness.touch)
    except TimeoutError:
        return f"the catalog did not commit within {CHECK_SECONDS:g} s"
    except DatabaseDamaged as damaged:
        return str(damaged)
    except DatabaseFailed:
        return "the catalog does not commit"
    return None


async def _disk(core: Core) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await core.blobs.probe()
            free = await core.blobs.free_bytes()
    except TimeoutError:
        return f"the blob store did not sync within {CHECK_SECONDS:g} s"
    except StoreFailed as failed:
        if failed.fatal:
            core.health.fail("a sync of the blob store failed")
        return "the blob store does not take writes"
    return "free space is below the reserve" if free < core.settings.reserve_bytes else None


ROUTES = (
    Route("GET", "/healthz", Access.OPEN, live),
    Route("GET", "/readyz", Access.OPEN, ready),
)
