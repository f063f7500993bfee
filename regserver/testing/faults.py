"""Faults on demand: what networks, proxies and busy registries do to a client, once or so many times.

A fault names the requests it waits for as ``METHOD PATH`` with wildcards (``"GET */blobs/*"``). Of each request that
matches, the first fault that still has something to do decides; the server itself answers everything else. In a pull
it is the answer's body that suffers, in a push the request's.

A request that only knocks, with no credentials where some are needed, meets no fault: whether a client does that before
it draws a token changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from regserver.errors import ErrorCode, RegistryError
from regserver.testing.relay import Relay, Spoiled

TOKEN = "GET /token"  # noqa: S105 - a path
PULL_BLOB = "GET */blobs/*"
PULL_MANIFEST = "GET */manifests/*"
PUSH_CHUNK = "PATCH */blobs/uploads/*"
PUSH_MANIFEST = "PUT */manifests/*"
_PASSED = "Bearer expired"  # what the server takes an expired token for: it never says what is wrong with one

Act = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
Spoil = Callable[[bytes], Spoiled]


@dataclass(slots=True, eq=False)
class Fault:
    """One that was set. ``met``: how many requests it has happened to so far."""

    name: str
    on: str
    skip: int  # matching requests that pass before it begins
    times: int
    act: Act = field(repr=False)
    met: int = 0

    def takes(self, request: web.Request) -> bool:
        """Whether it happens to this request; counts."""
        if self.met >= self.times or not fnmatchcase(f"{request.method} {request.path}", self.on):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.met += 1
        return True


class UnmetFault(AssertionError):
    """A fault was set, and no request came that it could happen to: the test has tried nothing."""


class Faults:
    """What goes wrong at one server. ``on``, ``skip`` and ``times`` are as in ``Fault``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._faults: list[Fault] = []
        self.open_registries: set[str] = set()  # that can be pulled from without credentials
        self._drawn: set[str] = set()  # bearer tokens that the server has given
        self._expired: set[str] = set()

    def unauthorized(self, on: str, *, skip: int = 0, times: int = 1) -> Fault:
        """401 with the challenge that the server has for an expired token, though the credentials are good."""

        async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await handler(_with_authorization(request, _PASSED))

        return self._add("unauthorized", on, skip, times, act)

    def too_many_requests(self, on: str = "* /v2/*", *, retry_after: int = 1, skip: int = 0, times: int = 1) -> Fault:
        """429 with ``Retry-After`` in seconds."""

        async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
            raise RegistryError(ErrorCode.TOO_MANY_REQUESTS, headers={hdrs.RETRY_AFTER: str(retry_after)})

        return self._add("too_many_requests", on, skip, times, act)

    def unavailable(self, on: str = "* /v2/*", *, skip: int = 0, times: int = 1) -> Fault:
        """503, as from a registry whose disk is full."""

        async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
            raise RegistryError(ErrorCode.UNAVAILABLE)

        return self._add("unavailable", on, skip, times, act)

    def slow(self, on: str = PULL_BLOB, *, seconds: float, skip: int = 0, times: int = 1) -> Fault:
        """The body takes at least that long, a piece after the other."""
        return self._spoil("slow", on, skip, times, lambda body: Spoiled(body, len(body), seconds=seconds))

    def short(self, on: str = PULL_BLOB, *, to: int, skip: int = 0, times: int = 1) -> Fault:
        """Only the first ``to`` bytes, with a ``Content-Length`` that agrees: only the digest tells."""
        return self._spoil("short", on, skip, times, lambda body: Spoiled(body[:to], len(body[:to])))

    def flipped(self, on: str = PULL_BLOB, *, at: int | None = None, skip: int = 0, times: int = 1) -> Fault:
        """One bit of the byte at offset ``at`` is the other one, or of the last byte; without it, in the middle."""
        return self._spoil("flipped", on, skip, times, lambda body: Spoiled(_flip(body, at), len(body)))

    def dropped(self, on: str = PULL_BLOB, *, after: int, skip: int = 0, times: int = 1) -> Fault:
        """The connection ends after ``after`` bytes of the body, with no further word. Of a push the server keeps
        these bytes, as it does when a network fails."""
        return self._spoil("dropped", on, skip, times, lambda body: Spoiled(body[:after], len(body), drop=True))

    def expired_token(self, *, skip: int = 0, times: int = 1) -> Fault:
        """The token service gives tokens that have expired already."""

        async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            self._expired.update(_tokens(response))
            return response

        return self._add("expired_token", TOKEN, skip, times, act)

    def expire_tokens(self) -> None:
        """Every token that has been given so far expires now; the next one that is drawn is good."""
        self._expired |= self._drawn

    def check(self) -> None:
        """Raises UnmetFault if a fault that was set has happened to no request."""
        if unmet := [fault for fault in self._faults if not fault.met]:
            told = ", ".join(f"{fault.name} on {fault.on!r}" for fault in unmet)
            raise UnmetFault(f"no request met the fault: {told}; the client never asked, or `on` names something else")

    def clear(self) -> None:
        """None is left; tokens that expired stay so."""
        self._faults.clear()

    def _spoil(self, name: str, on: str, skip: int, times: int, spoil: Spoil) -> Fault:
        async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
            response, is_spoiled = await self._relay.pass_on(request, spoil)
            fault.met -= not is_spoiled  # a refusal has no body that a client would keep
            return response

        fault = self._add(name, on, skip, times, act)
        return fault

    def _add(self, name: str, on: str, skip: int, times: int, act: Act) -> Fault:
        fault = Fault(name, on, skip, times, act)
        self._faults.append(fault)
        return fault

    async def inject(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Stands inside the server's own middleware, which renders what is raised here like every refusal."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and token in self._expired:
            request = _with_authorization(request, _PASSED)
        for fault in [] if self._is_knock(request) else list(self._faults):
            if fault.takes(request):
                response = await fault.act(request, handler)
                break
        else:
            response = await handler(request)
        if request.path == "/token":
            self._drawn.update(_tokens(response))
        return response

    def _is_knock(self, request: web.Request) -> bool:
        parts = request.path.split("/")
        is_open = parts[1] == "v2" and parts[2:3] and parts[2] in self.open_registries
        return hdrs.AUTHORIZATION not in request.headers and not is_open


def _with_authorization(request: web.Request, value: str) -> web.Request:
    headers = CIMultiDict(request.headers)
    headers[hdrs.AUTHORIZATION] = value
    return request.clone(headers=headers)


def _tokens(response: web.StreamResponse) -> set[str]:
    if not isinstance(response, web.Response) or response.status != 200 or not isinstance(response.body, bytes):
        return set()
    given = json.loads(response.body)
    return {given[name] for name in ("token", "access_token") if name in given}


def _flip(body: bytes, at: int | None) -> bytes:
    changed = bytearray(body)
    if changed:
        changed[len(changed) // 2 if at is None else min(at, len(changed) - 1)] ^= 1
    return bytes(changed)
