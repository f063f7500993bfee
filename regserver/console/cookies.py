"""The one cookie: a secret of the browser's, which a session may or may not belong to."""

from __future__ import annotations

from aiohttp import web

from regserver.auth.sessions import is_secret
from regserver.config import Settings
from regserver.web.challenge import public_base

_NAME = "regserver-console"


def _name(request: web.Request, settings: Settings) -> tuple[str, bool]:
    """(its name, whether it is for TLS alone). Cookies know no ports, so the name does: two registries on one machine
    would sign each other's users out. ``__Host-`` (RFC 6265bis §4.1.3.2) keeps a neighbour's subdomain from setting it.
    """
    base = public_base(request, settings)
    secure = base.scheme == "https"
    return f"{'__Host-' if secure else ''}{_NAME}-{base.port}", secure


def read(request: web.Request, settings: Settings) -> str | None:
    secret = request.cookies.get(_name(request, settings)[0], "")
    return secret if is_secret(secret) else None


def write(request: web.Request, settings: Settings, response: web.StreamResponse, secret: str) -> None:
    """No script reads it, and no other site's request carries it."""
    name, secure = _name(request, settings)
    response.set_cookie(name, secret, httponly=True, samesite="Strict", secure=secure, path="/")


def drop(request: web.Request, settings: Settings, response: web.StreamResponse) -> None:
    name, secure = _name(request, settings)
    response.del_cookie(name, httponly=True, samesite="Strict", secure=secure, path="/")
