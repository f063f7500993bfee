"""The console: pages for browsers under ``/console``. Nothing of it is loaded before the first browser comes."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Final

from aiohttp import hdrs, web

from regserver.errors import ErrorCode, RegistryError

ROOT: Final = "/console"


def mount(app: web.Application) -> None:
    """Adds the console's two doors; what is behind them is in ``console.routes``."""
    app.router.add_route("*", ROOT + "{rest:(?:/.*)?}", _serve)
    app.router.add_get("/", _front)


async def _serve(request: web.Request) -> web.StreamResponse:
    serving: Any = await asyncio.to_thread(importlib.import_module, "regserver.console.serving")
    response: web.StreamResponse = await serving.serve(request)
    return response


async def _front(request: web.Request) -> web.StreamResponse:
    """A browser finds the console at ``/``; a client that asks for no page is told what it always was."""
    if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        raise RegistryError(ErrorCode.NOT_FOUND)
    raise web.HTTPSeeOther(ROOT + "/")
