"""From a table of routes to a served application: who asks is found out and judged before any handler runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from aiohttp import hdrs, web

from regserver.auth.policy import required_scope
from regserver.errors import Unauthorized
from regserver.model.access import Access, Account, Caller, Kind, Target
from regserver.model.audit import Actor
from regserver.model.names import RepositoryName
from regserver.storage import evidence
from regserver.web import idempotency, middleware, plain
from regserver.web.challenge import client_address
from regserver.web.context import SERVICES, Call, Route, Services
from regserver.web.facts import FACTS, one

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Decide = Callable[[web.Request], Awaitable[Call]]

NOBODY: Final = Caller(Account(Kind.ANONYMOUS, ""), session="", shared=False)
PLAIN: Final = web.AppKey[plain.Routes]("plain")
_UNASKED: Final = frozenset({Access.OPEN, Access.TOKEN})  # routes that look at no credentials, or at them themselves


def build(app: web.Application, services: Services, routes: Sequence[Route]) -> None:
    """Registers every row, HEAD where there is GET, and OPTIONS everywhere."""
    app[SERVICES] = services
    middleware.install(app)
    rows: list[Route] = [*routes, *_implied(routes)]
    kept: list[tuple[Route, Decide]] = []
    for path in dict.fromkeys(row.path for row in rows):
        resource = app.router.add_resource(path)
        for row in rows:
            if row.path == path:
                decide = _decide(row, services)
                resource.add_route(row.method, _handle(row, decide), expect_handler=_expect)
                if row.kept:
                    kept.append((row, decide))
    app[PLAIN] = plain.routes_of(kept)


def _implied(routes: Sequence[Route]) -> list[Route]:
    methods: dict[str, list[str]] = {}
    for row in routes:
        methods.setdefault(row.path, []).append(row.method)
    implied = [
        Route(hdrs.METH_HEAD, row.path, row.access, row.handler, kept=row.kept)
        for row in routes
        if row.method == hdrs.METH_GET and hdrs.METH_HEAD not in methods[row.path]
    ]
    for row in implied:
        methods[row.path].append(row.method)
    return implied + [Route(hdrs.METH_OPTIONS, path, Access.OPEN, _options(has)) for path, has in methods.items()]


def _options(methods: list[str]) -> Callable[[web.Request, Call], Awaitable[web.StreamResponse]]:
    allow = ", ".join(sorted({*methods, hdrs.METH_OPTIONS}))

    async def options(request: web.Request, call: Call) -> web.Response:
        return web.Response(status=204, headers={hdrs.ALLOW: allow})

    return options


def _handle(route: Route, decide: Decide) -> Handle:
    async def handle(request: web.Request) -> web.StreamResponse:
        if not route.kept:
            evidence.once()
        call = await decide(request)
        await _continue(request)
        repeatable = request.method == hdrs.METH_POST and route.access.manages
        return await (idempotency.answer(request, route, call) if repeatable else route.handler(request, call))

    return handle


def _decide(route: Route, services: Services) -> Decide:
    """Who asks, and may they: nothing of the request but its path, its credentials and where it comes from."""

    async def decide(request: web.Request) -> Call:
        credentials = one(request, hdrs.AUTHORIZATION)  # two of them: which one would be judged, which one trusted?
        origin = Actor("", client_address(request, services.settings), request[FACTS].request_id)
        caller, target = replace(NOBODY, address=origin.address, request_id=origin.request_id), None
        if route.access is not Access.OPEN:
            services.gate.admit(origin)
        if route.access not in _UNASKED:
            name = _repository(request, route.access)
            try:
                caller = await services.gate.caller(credentials, origin, manages=route.access.manages)
            except Unauthorized as refused:  # a client that comes again only once must learn now what to ask for
                refused.scope = required_scope(route.access, name)
                raise
            caller = replace(caller, address=origin.address, request_id=origin.request_id)
            request[FACTS].subject = caller.account.subject
            services.gate.admit_caller(caller)
            registry_id = request.match_info.get("registry_id")
            target = await _authorise(services, caller, route.access, name, registry_id)
        return Call(services, caller, target)

    return decide


def _repository(request: web.Request, access: Access) -> RepositoryName | None:
    """Raises RegistryError NAME_INVALID: the path is decoded after routing, and anything may stand there."""
    return RepositoryName.parse(request.match_info["name"]) if access.actions else None


async def _authorise(
    services: Services, caller: Caller, access: Access, name: RepositoryName | None, registry_id: str | None
) -> Target | None:
    if name is not None:
        return await services.authorizer.repository(caller, access, name)
    services.authorizer.general(caller, access, registry_id)
    return None


async def _expect(request: web.Request) -> None:
    """Nothing yet. The framework would send 100 here, before anybody has asked who it is."""


async def _continue(request: web.Request) -> None:
    facts = request[FACTS]
    if facts.continue_owed:
        facts.continue_owed = False
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # an interim answer is not the answer
