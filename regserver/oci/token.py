"""The token service: credentials for a short-lived bearer token (distribution, "Token Authentication", "OAuth2")."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from regserver.auth import scopes
from regserver.auth.authenticate import Identity, refusal
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Access
from regserver.web import streaming
from regserver.web.challenge import TOKEN_PATH
from regserver.web.context import Call, Route
from regserver.web.facts import one

MAX_FORM_BYTES = 16 * 1024
_MAX_FIELDS = 1000
_FORM = "application/x-www-form-urlencoded"

Fields = list[tuple[str, str]]


async def get_token(request: web.Request, call: Call) -> web.Response:
    """Basic credentials, or none for an anonymous token. ``service``, ``account``, ``client_id`` and ``offline_token``
    change nothing: a refresh token would make docker drop the password that it can always use again."""
    identity = await call.services.gate.identity(one(request, hdrs.AUTHORIZATION), call.caller.actor)
    return await _issued(call, identity, request.query.getall("scope", []))


async def post_token(request: web.Request, call: Call) -> web.Response:
    """The OAuth2 form (RFC 6749 §4.3): credentials stand in the body, so nobody is anonymous here."""
    if request.content_type != _FORM:
        raise RegistryError(ErrorCode.MEDIA_TYPE_UNSUPPORTED, message=f"send the form as {_FORM}")
    fields = _fields(await streaming.read(request, call.services.settings, MAX_FORM_BYTES))
    identity = await _granted(call, fields)
    return await _issued(call, identity, [value for name, value in fields if name == "scope"], with_scope=True)


async def _granted(call: Call, fields: Fields) -> Identity:
    """By ``grant_type``. No refresh token is ever issued, so none can be good."""
    match _single(fields, "grant_type"):
        case "password":
            username, password = _single(fields, "username"), _single(fields, "password")
            return await call.services.gate.login(username, password, call.caller.actor)
        case "refresh_token" if call.services.settings.dev:
            return await call.services.authenticator.identity(None)
        case "refresh_token":
            _single(fields, "refresh_token")
            raise refusal()
        case _:
            raise RegistryError(ErrorCode.REQUEST_INVALID, message="grant_type must be password or refresh_token")


async def _issued(call: Call, identity: Identity, asked: Iterable[str], *, with_scope: bool = False) -> web.Response:
    """``expires_in`` is always there (containerd would keep the token for good); ``issued_at`` never, so that clients
    count by their own clock."""
    granted = await call.services.authorizer.grant_all(identity.account, scopes.parse(asked))
    token, seconds = await call.services.tokens.issue(identity.account.subject, identity.binding, granted)
    answer: dict[str, object] = {"token": token, "access_token": token, "expires_in": seconds}
    if with_scope:
        answer |= {"token_type": "Bearer", "scope": str(granted)}
    return web.json_response(answer, headers={hdrs.CACHE_CONTROL: "no-store"})


def _fields(content: bytes) -> Fields:
    """Raises RegistryError REQUEST_INVALID for what is no form in UTF-8."""
    try:
        return parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message="the body is no well-formed form") from None


def _single(fields: Fields, name: str) -> str:
    """RFC 6749 §3.2: a parameter is given once. Raises RegistryError REQUEST_INVALID."""
    values = [value for key, value in fields if key == name]
    if len(values) != 1:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message=f"{name} must be given once")
    return values[0]


ROUTES = (
    Route("GET", TOKEN_PATH, Access.TOKEN, get_token),
    Route("POST", TOKEN_PATH, Access.TOKEN, post_token),
)
