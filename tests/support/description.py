"""Every answer of /v1, held against the description that the server gives of itself.

`support.registry.served_app` puts this around each application, so every test of the management API is a test of its
description too. Objects are closed here: a field that nobody described is a fault.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

from aiohttp import web
from jsonschema import Draft202012Validator

from regserver.app import ROUTES
from regserver.mgmt import body, declared
from regserver.mgmt.openapi import MANAGED, make_document, template
from regserver.mgmt.operations import Operation, operation_of
from regserver.mgmt.query import Query
from regserver.web.context import Route

TELLING = {"etag", "location", "link", "www-authenticate", "retry-after"}
UNCERTAIN = {"link", "x-request-id", "idempotency-replayed"}  # not on every answer, or not yet where a middleware looks


class Read:
    """What a handler has asked of its request."""

    def __init__(self) -> None:
        self.fields: set[str] = set()
        self.records: list[declared.Record] = []


_read: ContextVar[Read] = ContextVar("read")


def managed_routes() -> list[Route]:
    return [route for route in ROUTES if route.path.startswith(MANAGED)]


@cache
def description() -> dict[str, Any]:
    """The document, with every object closed."""
    document = closed(make_document(managed_routes()))
    assert isinstance(document, dict)
    return document


def closed(part: Any) -> Any:
    if isinstance(part, list):
        return [closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    inner = {name: closed(value) for name, value in part.items()}
    if inner.get("type") == "object" and "properties" in inner:
        inner.setdefault("additionalProperties", False)
    return inner


@cache
def validator(path: str, method: str, status: int) -> Draft202012Validator | None:
    """Of an answer's body; None where there is none. Raises KeyError for a status that is not described."""
    content = description()["paths"][path][method]["responses"][str(status)].get("content")
    if content is None:
        return None
    ((_, described),) = content.items()
    return Draft202012Validator({**described["schema"], "components": description()["components"]})


class Watch:
    """A middleware that notes where answers and description differ."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._routes = {(row.method, template(row.path)): row for row in managed_routes()}

    @property
    def middleware(self) -> Any:
        @web.middleware
        async def watch(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            asked = Read()
            reset = _read.set(asked)
            try:
                response = await handler(request)
            finally:
                _read.reset(reset)
            self._hold(request, response, asked)
            return response

        return watch

    def _hold(self, request: web.Request, response: web.StreamResponse, asked: Read) -> None:
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        row = self._routes.get((method, resource.canonical)) if resource is not None else None
        if row is None:
            return
        where = f"{method} {template(row.path)} {response.status}"
        found = [*answer_faults(template(row.path), method.lower(), response)]
        if response.status < 300 and "Idempotency-Replayed" not in response.headers:
            found += request_faults(operation_of(row), asked)
        self.faults += [f"{where}: {fault}" for fault in found]


def answer_faults(path: str, method: str, response: web.StreamResponse) -> Iterator[str]:
    try:
        judge = validator(path, method, response.status)
    except KeyError:
        yield "the status is not described"
        return
    described = description()["paths"][path][method]["responses"][str(response.status)]
    stated = {name.lower() for name in described["headers"]}
    carried = {name.lower() for name in response.headers}
    yield from (f"{name} is not described" for name in TELLING & carried - stated)
    may_miss = UNCERTAIN | ({"retry-after"} if response.status == 409 else set())
    yield from (f"{name} is missing" for name in stated - carried - may_miss)
    content = response.body if isinstance(response, web.Response) else None
    if judge is None:
        if content:
            yield "it has a body"
        return
    if response.content_type not in described["content"]:
        yield f"{response.content_type} is not described"
    if response.content_type == "application/json":
        assert isinstance(content, bytes)
        yield from (f"{error.json_path}: {error.message}" for error in judge.iter_errors(json.loads(content)))


def request_faults(operation: Operation, asked: Read) -> Iterator[str]:
    stated = {parameter.name for parameter in operation.query}
    if asked.fields != stated:
        yield f"the query's {sorted(asked.fields)} were read, {sorted(stated)} are described"
    if any(record is not operation.body for record in asked.records):
        yield "another record was read than is described"
    if operation.body_required and not asked.records:
        yield "no body was read"


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Lets a watch see what handlers ask of their requests."""
    one, read = Query._one, body.read

    def noted_one(self: Query, field: str) -> str | None:
        if (noted := _read.get(None)) is not None:
            noted.fields.add(field)
        return one(self, field)

    def noted_read(record: declared.Record, document: Any) -> dict[str, Any]:
        if (noted := _read.get(None)) is not None:
            noted.records.append(record)
        return read(record, document)

    Query._one, body.read = noted_one, noted_read  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Query._one, body.read = one, read  # type: ignore[method-assign]
