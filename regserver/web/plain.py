"""Requests so plain that their heads can be read here: nothing but a few headers that everybody sends, each once.

The same handler runs as for every other request, at once and to its end, on what it asks of a request. What is not
plain, what would wait or write, and every refusal is left to the framework, which then does all of it anew: until then
nothing has been done.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import hdrs
from multidict import CIMultiDict

from regserver.auth.authenticate import claim
from regserver.storage import evidence
from regserver.storage.evidence import Evidence, Impure
from regserver.web.context import Call, Route
from regserver.web.facts import FACTS, Facts

Decide = Callable[[Any], Awaitable[Call]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlainRoute:
    """A kept route. ``last``: what the last part of its path is called."""

    route: Route
    decide: Decide
    last: str

    @property
    def template(self) -> str:
        """As the framework calls the same route."""
        return self.route.path.replace("{name:.+}", "{name}")


Routes = Mapping[tuple[str, str], PlainRoute]  # by method and the last word of the path but one

# RFC 9112 §3 and §5, the part of it that leaves no question: one form of white space, no folding, printable ASCII.
_LINE: Final = re.compile(rb"(GET|HEAD) (/v2/[A-Za-z0-9._/:+-]*) HTTP/1\.1")
_HEADER: Final = re.compile(rb"([A-Za-z-]+): ?([!-~](?:[ -~]*[!-~])?)")
# What the handlers of these routes look at, or nobody does. Conditions and ranges are not among them.
_ONCE: Final = frozenset(
    {"host", "authorization", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
)
_IGNORED: Final = frozenset({"accept", "accept-encoding", "docker-distribution-api-version"})


class _Peer:
    """Of a connection, its other end. Who wants more of it wants to send by itself."""

    def __init__(self, peer: object) -> None:
        self._peer = peer

    def get_extra_info(self, name: str) -> object:
        if name != "peername":
            raise Impure
        return self._peer


class _NoBody:
    total_bytes = 0


class PlainRequest:
    """What of a request a handler of a kept route may look at. Looking at anything else ends the attempt."""

    version = (1, 1)
    content = _NoBody

    def __init__(self, method: str, path: str, headers: CIMultiDict[str], match_info: dict[str, str], peer: object):
        self.method, self.path, self.headers, self.match_info = method, path, headers, match_info
        self.transport = _Peer(peer)
        self.facts = Facts("")

    def __getitem__(self, key: object) -> Facts:
        if key is not FACTS:
            raise Impure
        return self.facts

    def __getattr__(self, name: str) -> Any:
        raise Impure


def read(head: bytes, routes: Routes, peer: object) -> tuple[PlainRequest, PlainRoute] | None:
    """The request that these bytes are, and who answers it; None for one that is not plain."""
    line, *lines = head[:-4].split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    method, path = match[1].decode(), match[2].decode()
    before, _, last = path.rpartition("/")
    before, _, kind = before.rpartition("/")
    found = routes.get((method, kind if path != "/v2/" else ""))
    headers = _headers(lines)
    if found is None or headers is None or (path != "/v2/" and len(before) <= len("/v2/")):
        return None
    return PlainRequest(method, path, headers, {"name": before[4:], found.last: last}, peer), found


def _headers(lines: list[bytes]) -> CIMultiDict[str] | None:
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            return None
        name = match[1].decode().lower()
        if name in _ONCE and name not in headers:
            headers[name] = match[2].decode()
        elif name not in _IGNORED:
            return None
    credentials = headers.get(hdrs.AUTHORIZATION)
    if hdrs.HOST not in headers or (credentials is not None and not _is_bearer(credentials)):
        return None
    return headers


def _is_bearer(credentials: str) -> bool:
    """A signed token: what can be guessed at is counted, and so must not be judged twice."""
    return credentials[:7] == "Bearer " and claim(credentials) is None


def at_once(steps: Awaitable[T], found: Evidence) -> T | None:
    """What comes of it, if that comes at once and from reading alone."""
    found.strict = True
    with evidence.collecting(found):
        run = steps.__await__()
        try:
            run.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        except Exception:  # a refusal, or whatever it is: the framework's way meets it again, and tells
            return None
        run.close()
        return None


def routes_of(rows: Iterable[tuple[Route, Decide]]) -> Routes:
    """Raises ValueError where the end of a path would not tell two of them apart."""
    found: dict[tuple[str, str], PlainRoute] = {}
    for route, decide in rows:
        *_, kind, last = route.path.split("/")
        key = route.method, kind if route.path != "/v2/" else ""
        if key in found or (route.path != "/v2/" and not route.path.startswith("/v2/{name:.+}/")):
            raise ValueError(f"{route.path}: this path cannot be read here")
        found[key] = PlainRoute(route, decide, last.strip("{}"))
    return found
