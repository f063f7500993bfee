"""``GET /v1/openapi.json`` (OpenAPI 3.1.1) and the page of it: made of the routes and their declarations.

Nothing in it depends on who asks or on what the registry holds, so it is made once and has a strong ETag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from aiohttp import hdrs, web

from regserver import __version__
from regserver.auth.policy import GENERAL, Means, Verdict
from regserver.errors import ErrorCode
from regserver.mgmt.declared import Schema
from regserver.mgmt.operations import HTML, JSON, Group, Operation, operation, operation_of, refusals, request_headers
from regserver.mgmt.page import POLICY, render
from regserver.mgmt.parameters import PATH_PARAMETERS, REQUEST_HEADERS, RESPONSE_HEADERS
from regserver.mgmt.schemas import REFERENCE, RESOURCES, mapping, record, resource, text
from regserver.model.access import ADMIN_SCOPE, READ_SCOPE, REGISTRY_SCOPE, Access
from regserver.web.context import Call, Handler, Route
from regserver.web.idempotency import REPLAYED

MANAGED = "/v1/"
Document = dict[str, Any]

INTRODUCTION = (
    "Manages the registries of this server: who may use them, what is in them, what they keep. "
    "An answer holds `data`, and on lists `meta`; an error holds `error` with a stable `code`. "
    "Times are RFC 3339 in UTC. Unknown fields of a body are refused; of an answer they must be borne."
)

ERROR = resource(
    "Error",
    {
        "error": record(
            {
                "code": text("validation_failed", "Stable: what a program goes by."),
                "message": text("some fields are not acceptable", "For people; may change."),
                "request_id": text(
                    "req_06a9v3k7fshb72q0e5dcm1n8p4", "The same as X-Request-Id, and in the server's log."
                ),
                "details": {
                    "type": "array",
                    "items": {},
                    "description": "With validation_failed one entry for every field that is wrong.",
                    "examples": [[{"field": "name", "code": "reserved", "message": "is a reserved name"}]],
                },
            }
        )
    },
)


def describing(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The two routes that tell of these routes and of themselves."""

    @cache
    def document() -> Document:
        return make_document([*routes, *own])

    own = (
        Route("GET", MANAGED + "openapi.json", Access.OPEN, _description(document)),
        Route("GET", MANAGED + "docs", Access.OPEN, _page(document)),
    )
    return own


def _description(document: Callable[[], Document]) -> Handler:
    @cache
    def content() -> bytes:
        return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()

    @operation(
        Group.DESCRIPTION,
        "This description",
        raw=(JSON, mapping({})),
        conditions=[hdrs.IF_NONE_MATCH],
        headers=[hdrs.ETAG],
    )
    async def get_openapi(request: web.Request, call: Call) -> web.Response:
        """OpenAPI 3.1, made from what the server checks requests against."""
        return _constant(request, content(), JSON)

    return get_openapi


def _page(document: Callable[[], Document]) -> Handler:
    @cache
    def content() -> bytes:
        return render(document()).encode()

    @operation(
        Group.DESCRIPTION,
        "This page",
        raw=(HTML, text("<!doctype html>…")),
        conditions=[hdrs.IF_NONE_MATCH],
        headers=[hdrs.ETAG],
    )
    async def get_docs(request: web.Request, call: Call) -> web.Response:
        """The same for people. It fetches nothing from elsewhere and runs no script."""
        response = _constant(request, content(), HTML)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return get_docs


def _constant(request: web.Request, content: bytes, media_type: str) -> web.Response:
    """200, or 304 where the client holds it already (RFC 9110 §13.1.2)."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers: dict[str, str] = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}  # kept, but asked about
    known = {value.strip().removeprefix("W/") for value in request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")}
    if known & {tag, "*"}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers={**headers, hdrs.CONTENT_TYPE: f"{media_type}; charset=utf-8"})


# ---------------------------------------------------------------- the document


def make_document(routes: Iterable[Route]) -> Document:
    """Raises LookupError for a route without a description."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(template(route.path), {})[route.method.lower()] = _operation(route, operation_of(route))
    used = {described["tags"][0] for path in paths.values() for described in path.values()}
    return {
        "openapi": "3.1.1",
        "info": {"title": "Registry API", "version": __version__, "description": INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": group.title, "description": group.about} for group in Group if group.title in used],
        "paths": paths,
        "components": {"schemas": RESOURCES, "securitySchemes": SECURITY},
    }


SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token, or the administrator's token."},
    "login": {"type": "http", "scheme": "basic", "description": "`admin`, and the administrator's token as password."},
}


def template(path: str) -> str:
    """A row's path without the regular expressions of its parts."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def _operation(route: Route, described: Operation) -> Document:
    about = {"description": described.about} if described.about else {}
    body = {"requestBody": _body(described)} if described.body is not None else {}
    return {
        "operationId": route.handler.__name__,
        "tags": [described.group.title],
        "summary": described.summary,
        **about,
        "security": _security(route),
        "parameters": _parameters(route, described),
        **body,
        "responses": _responses(route, described),
    }


def _security(route: Route) -> list[Document]:
    """Any of these will do; the scopes are those of API tokens, as the table of decisions has it."""
    if route.access is Access.OPEN:
        return []
    here = Means.API_OWN if "{registry_id}" in route.path else Means.API_NOWHERE
    means = {ADMIN_SCOPE: Means.API_ADMIN, READ_SCOPE: Means.API_READ, f"{REGISTRY_SCOPE}<id>": here}
    scopes = [scope for scope, mean in means.items() if GENERAL[route.access][mean] is Verdict.ALLOW]
    return [*({"token": [scope]} for scope in scopes), {"login": []}]


def _parameters(route: Route, described: Operation) -> list[Document]:
    found: list[Document] = []
    for name in re.findall(r"\{(\w+)", route.path):
        schema, about = PATH_PARAMETERS[name]
        found.append({"name": name, "in": "path", "required": True, "description": about, "schema": schema})
    for parameter in described.query:
        shown = {"description": parameter.about, "schema": parameter.schema}
        found.append({"name": parameter.name, "in": "query", "required": False, **shown})
    for name in request_headers(route):
        schema, about = REQUEST_HEADERS[name]
        found.append({"name": _spelt(name), "in": "header", "required": False, "description": about, "schema": schema})
    return found


def _body(described: Operation) -> Document:
    assert described.body is not None  # noqa: S101 - for the type checker; the caller has looked
    return {"required": described.body_required, "content": {JSON: {"schema": described.body.schema()}}}


def _responses(route: Route, described: Operation) -> Document:
    repeated = [REPLAYED] if route.method == hdrs.METH_POST else []
    headers = _headers(["X-Request-Id", *described.headers, *repeated])
    success: Document = {"description": _PHRASES[described.status], "headers": headers}
    if described.answer is not None:
        success["content"] = {described.media_type: {"schema": described.answer}}
    found = {str(described.status): success}
    if hdrs.IF_NONE_MATCH in described.conditions:
        found["304"] = {"description": "As the client knows it.", "headers": headers}
    by_status: dict[int, list[ErrorCode]] = {}
    for code in sorted(refusals(route), key=lambda code: (code.status, code.name)):
        by_status.setdefault(code.status, []).append(code)
    return found | {str(status): _refusal(status, codes) for status, codes in by_status.items()}


def _refusal(status: int, codes: list[ErrorCode]) -> Document:
    said = "; ".join(dict.fromkeys(f"`{code.name.lower()}`: {code.message}" for code in codes))
    names = {"properties": {"code": {"enum": [code.name.lower() for code in codes]}}}
    schema: Schema = {"$ref": REFERENCE + "Error", "properties": {"error": names}}
    waits = ["Retry-After"] if ErrorCode.REQUEST_IN_PROGRESS in codes else []
    headers = _headers(["X-Request-Id", *_ACCOMPANY.get(status, ()), *waits])
    return {"description": said, "headers": headers, "content": {JSON: {"schema": schema}}}


def _headers(names: Iterable[str]) -> Document:
    found = {name: RESPONSE_HEADERS[name] for name in names}
    return {_spelt(name): {"description": about, "schema": schema} for name, (schema, about) in found.items()}


def _spelt(header: str) -> str:
    return "ETag" if header == hdrs.ETAG else str(header)  # as RFC 9110 has it


_PHRASES = {200: "Done.", 201: "Created.", 204: "Done; there is nothing to say."}
_ACCOMPANY = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
