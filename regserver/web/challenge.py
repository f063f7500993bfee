"""Under which address clients reach this server, and the challenge that sends them to the token service.

A header of the request decides neither realm nor service beyond its validated Host; ``X-Forwarded-*`` count only from a
proxy that the operator named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from aiohttp import hdrs, web
from yarl import URL

from regserver.config import Settings
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.web.errors import is_managed
from regserver.web.facts import one

TOKEN_PATH = "/token"  # noqa: S105 - a path
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?|\[([0-9a-f:.]{2,45})\])(?::([0-9]{1,5}))?", re.ASCII)
_SCHEMES = frozenset({"http", "https"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def challenge(request: web.Request, settings: Settings, unauthorized: Unauthorized) -> str:
    """The value of the one ``WWW-Authenticate`` header (RFC 6750 §3). Raises RegistryError REQUEST_INVALID.

    Fields in a fixed order: regctl gives up when realm or service change from one challenge to the next. Under /v1 the
    administrator's token is meant, which no token service issues: the scheme says all."""
    fields = {"error": unauthorized.error}
    if not is_managed(request.path):
        base = public_base(request, settings)
        realm = str(base.with_path(TOKEN_PATH))
        fields = {"realm": realm, "service": str(base).partition("//")[2], "scope": unauthorized.scope, **fields}
    said = ",".join(f'{name}="{_escaped(value)}"' for name, value in fields.items() if value is not None)
    return f"Bearer {said}" if said else "Bearer"


def public_base(request: web.Request, settings: Settings) -> URL:
    """``scheme://host[:port]``, as the client sees this server. Raises RegistryError REQUEST_INVALID for a bad Host."""
    if settings.public_url is not None:
        return URL(settings.public_url).origin()
    scheme, host = request.scheme, one(request, hdrs.HOST)
    if _is_trusted(request, settings.trusted_proxies):
        scheme = _last(request, hdrs.X_FORWARDED_PROTO) or scheme
        host = _last(request, hdrs.X_FORWARDED_HOST) or host
    authority = (host or "").lower()
    if scheme not in _SCHEMES or not _is_authority(authority):
        raise RegistryError(ErrorCode.REQUEST_INVALID, message="the Host header is missing or malformed")
    return URL.build(scheme=scheme, authority=authority)


def _is_authority(text: str) -> bool:
    """``host[:port]``, an IPv6 host in brackets (RFC 3986 §3.2), and nothing that would need escaping anywhere."""
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[2] or 1) < 2**16:
        return False
    try:
        return match[1] is None or ipaddress.ip_address(match[1]).version == 6
    except ValueError:
        return False


def client_address(request: web.Request, settings: Settings) -> str:
    """The address that a request comes from; empty where the connection has none.

    Each proxy appends to ``X-Forwarded-For`` whom it has heard, so the last entry that no trusted proxy stands for is
    the client. What comes before it, and whatever an untrusted peer says, is what somebody claims."""
    address = _peer(request)
    if address is None:
        return ""
    heard = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")
    while heard and _in_networks(address, settings.trusted_proxies):
        before = _address(_without_port(heard.pop().strip()))
        if before is None:
            break
        address = before
    return str(address)


def _is_trusted(request: web.Request, networks: Iterable[str]) -> bool:
    """By the address of the connection itself."""
    peer = _peer(request) if networks else None
    return peer is not None and _in_networks(peer, networks)


def _peer(request: web.Request) -> Address | None:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return _address(str(peer[0])) if isinstance(peer, tuple) else None


def _without_port(hop: str) -> str:
    """Some proxies write one: ``192.0.2.1:80``, ``[2001:db8::1]:80`` (RFC 7239 §6 has the form)."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """Without a zone, which means something on one machine only."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # a listener on :: sees IPv4 peers so


def _in_networks(address: Address, networks: Iterable[str]) -> bool:
    return any(address in ipaddress.ip_network(network) for network in networks)


def _last(request: web.Request, header: str) -> str | None:
    """What the nearest proxy wrote: it appends, and what stands before came from further away."""
    values = request.headers.getall(header, [])
    return values[-1].rpartition(",")[2].strip().lower() or None if values else None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
