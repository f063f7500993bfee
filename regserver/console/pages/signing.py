"""Signing in and out, and the files that the pages refer to."""

from __future__ import annotations

import re
from importlib import resources

from aiohttp import hdrs, web

from regserver.console import cookies, links
from regserver.console.visit import Visit, see_other
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.model.audit import Actor
from regserver.web.challenge import client_address
from regserver.web.context import Services
from regserver.web.facts import FACTS

MAX_TOKEN_LENGTH = 512
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_FILE = re.compile(r"[a-z][a-zA-Z.-]{1,40}", re.ASCII)
_INSIDE = re.compile(r"/console(/[^\\]*)?", re.ASCII)


async def show(visit: Visit) -> web.Response:
    if visit.services.settings.dev:
        return see_other(links.home())
    return visit.page("sign_in.html", wrong=False, next=_next(visit.asked("next")))


async def sign_in(visit: Visit) -> web.Response:
    """With the administrator's token or one of the management API. The cookie is a new one: whoever knew the one from
    before knows nothing now."""
    services, request = visit.services, visit.request
    origin = Actor("", client_address(request, services.settings), request[FACTS].request_id)
    token, back = visit.form.get("token", "").strip(), _next(visit.form.get("next", ""))
    services.gate.admit(origin)
    try:
        secret = await _session(services, token, origin)
    except Unauthorized:
        return visit.page("sign_in.html", status=403, wrong=True, next=back)
    response = see_other(back or links.home())
    cookies.write(request, services.settings, response, secret)
    return response


async def _session(services: Services, token: str, origin: Actor) -> str:
    """Raises Unauthorized, RegistryError TOO_MANY_REQUESTS."""
    if not (token.isascii() and token.isprintable() and 0 < len(token) <= MAX_TOKEN_LENGTH):
        raise Unauthorized
    return await services.sessions.open(await services.gate.caller(f"Bearer {token}", origin, manages=True))


async def sign_out(visit: Visit) -> web.Response:
    await visit.services.sessions.close(visit.secret)
    response = see_other(links.sign_in())
    cookies.drop(visit.request, visit.services.settings, response)
    return response


def _next(text: str) -> str:
    """A page of the console to go back to, else nothing: no stranger's link leads elsewhere through here."""
    return text if _INSIDE.fullmatch(text) and text.isprintable() else ""


async def static(visit: Visit) -> web.Response:
    """A file of the package. It changes with the version only, so a browser asks again but seldom fetches it."""
    name = visit.params["file"]
    file = resources.files("regserver.console").joinpath("static", name)
    kind = _TYPES.get(name[name.rfind(".") :])
    if not _FILE.fullmatch(name) or kind is None or not file.is_file():
        raise RegistryError(ErrorCode.NOT_FOUND)
    headers = {hdrs.CACHE_CONTROL: "public, max-age=300"}
    return web.Response(body=file.read_bytes(), content_type=kind, charset="utf-8", headers=headers)
