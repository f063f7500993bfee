"""``/v1/tokens``: tokens of this API, for whoever manages all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from regserver.auth.api_tokens import UnknownRegistries
from regserver.errors import ErrorCode, RegistryError
from regserver.mgmt import answers, body, paths
from regserver.mgmt.conditions import etag, if_match
from regserver.mgmt.declared import About, Fault, Moment, Nullable, Record, Text, Texts, refuse
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import API_TOKEN, API_TOKEN_CREATED, SCOPE_FORM
from regserver.model.access import ADMIN_SCOPE, READ_SCOPE, REGISTRY_SCOPE, Permit
from regserver.model.ids import is_id
from regserver.model.times import now_ms, rfc3339
from regserver.storage.catalog.api_tokens import ApiTokenRow
from regserver.web.context import Call
from regserver.web.facts import CHARACTER, is_text

MAX_NAME_LENGTH = 100
MAX_SCOPES = 100


def _name(text: str) -> tuple[str, str] | None:
    if not 0 < len(text) <= MAX_NAME_LENGTH:
        return "invalid_length", f"must be 1 to {MAX_NAME_LENGTH} characters"
    return None if is_text(text) else ("invalid_format", "must hold no control characters")


def _scope(text: str) -> tuple[str, str] | None:
    if text in (ADMIN_SCOPE, READ_SCOPE):
        return None
    if text.startswith(REGISTRY_SCOPE) and is_id("reg", text.removeprefix(REGISTRY_SCOPE)):
        return None
    return "unknown_value", "must be admin, read or registry:<the id of a registry>"


_CREATE = Record(
    {
        "name": About("For people.", Text(_name, {"pattern": f"^{CHARACTER}{{1,{MAX_NAME_LENGTH}}}$"}), "ci"),
        "scopes": About(
            "admin, read, or registry: and a registry's id.",
            Texts(_scope, 1, MAX_SCOPES, {"pattern": SCOPE_FORM}),
            ["read"],
        ),
        "expires_at": About("Never, where it is null or not given.", Nullable(Moment()), "2027-01-31T12:00:00Z"),
    },
    required=frozenset({"name", "scopes"}),
)


@operation(Group.TOKENS, "List API tokens", items=API_TOKEN)
async def list_tokens(request: web.Request, call: Call) -> web.Response:
    query = Query(request)
    paging = query.paging()
    query.finish()
    rows, total = await call.services.api_tokens.page(paging.per_page, paging.offset)
    return answers.listed(request, [_shown(row) for row in rows], total, paging)


@operation(
    Group.TOKENS,
    "Create an API token",
    data=API_TOKEN_CREATED,
    status=201,
    body=_CREATE,
    headers=[hdrs.LOCATION, hdrs.ETAG, hdrs.CACHE_CONTROL],
)
async def create_token(request: web.Request, call: Call) -> web.Response:
    """The only answer that holds the token."""
    values = await body.required(request, call, _CREATE)
    expires_at = values.get("expires_at")
    if expires_at is not None and expires_at <= now_ms():
        refuse([Fault("expires_at", "in_the_past", "must lie ahead")])
    try:
        row, token = await call.services.api_tokens.create(
            values["name"], Permit.of(values["scopes"]), expires_at, call.caller.actor
        )
    except UnknownRegistries as unknown:
        sent = values["scopes"]
        refuse(
            [Fault(f"scopes.{sent.index(scope)}", "not_found", "no registry has this id") for scope in unknown.scopes]
        )
        raise
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/tokens/{row.id}", hdrs.ETAG: etag(row)}
    return answers.secret(_shown(row), {"token": token}, status=201, headers=headers)


async def renew_token(request: web.Request, call: Call, public: Mapping[str, Any]) -> dict[str, str]:
    """Nobody has it but who got the answer. Raises RegistryError ANSWER_LOST."""
    message = "this token was made already and shown once; delete it and make another"
    raise RegistryError(ErrorCode.ANSWER_LOST, {"id": public["id"]}, message=message)


@operation(Group.TOKENS, "Get an API token", data=API_TOKEN, headers=[hdrs.ETAG])
async def get_token(request: web.Request, call: Call) -> web.Response:
    row = await call.services.api_tokens.get(paths.token_id(request))
    return answers.single(_shown(row), headers={hdrs.ETAG: etag(row)})


@operation(Group.TOKENS, "Revoke an API token", conditions=[hdrs.IF_MATCH])
async def delete_token(request: web.Request, call: Call) -> web.Response:
    await call.services.api_tokens.delete(paths.token_id(request), call.caller.actor, if_match(request))
    return answers.nothing()


def _shown(row: ApiTokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.permit.scopes),
        "expires_at": None if row.expires_at is None else rfc3339(row.expires_at),
        "last_used_at": None if row.last_used_at is None else rfc3339(row.last_used_at),
        "created_at": rfc3339(row.created_at),
    }
