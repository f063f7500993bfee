"""What keeps an open registry on a developer's machine from web pages (`--dev`).

A browser lets any page send requests to loopback. Two things a page cannot hide: the Host it was reached under (DNS
rebinding brings a name of the attacker's) and the Origin it comes from.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from regserver.config import is_loopback
from regserver.errors import ErrorCode, RegistryError


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses with 403 what was not addressed to this machine by name, or was sent by a page of another site."""
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) != 1 or not is_local(f"//{hosts[0]}"):
        raise RegistryError(ErrorCode.DENIED, message="with --dev the Host must be localhost or a loopback address")
    if not all(is_local(origin) for origin in request.headers.getall(hdrs.ORIGIN, [])):
        raise RegistryError(ErrorCode.DENIED, message="with --dev a page of another site may not send requests")
    return await handler(request)


def is_local(url: str) -> bool:
    """Whether the host of ``scheme://host[:port]`` or ``//host[:port]`` is this machine; nonsense is not."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  it raises for what is no port
        return not (parts.path or parts.query or parts.fragment or "@" in parts.netloc) and is_loopback(
            parts.hostname or ""
        )
    except ValueError:
        return False
