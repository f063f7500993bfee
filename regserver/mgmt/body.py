"""JSON bodies of requests."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import hdrs, web

from regserver.errors import ErrorCode, RegistryError
from regserver.mgmt.declared import Record, read
from regserver.web import streaming
from regserver.web.context import Call

MAX_BYTES = streaming.MAX_DOCUMENT_BYTES
_TYPES = frozenset({"application/json", "application/merge-patch+json"})  # RFC 7396 for PATCH


async def required(request: web.Request, call: Call, record: Record) -> dict[str, Any]:
    """The body's fields. Raises RegistryError MALFORMED_JSON, MEDIA_TYPE_UNSUPPORTED, BODY_TOO_LARGE,
    VALIDATION_FAILED."""
    return read(record, _parse(await _bytes(request, call)))


async def optional(request: web.Request, call: Call, record: Record) -> dict[str, Any]:
    """Like ``required``; no body at all is an empty object."""
    if not request.body_exists:
        return read(record, {})
    content = await _bytes(request, call)
    return read(record, _parse(content) if content else {})


async def _bytes(request: web.Request, call: Call) -> bytes:
    content = await streaming.read(request, call.services.settings, MAX_BYTES)
    if content and not _is_json(request):
        raise RegistryError(
            ErrorCode.MEDIA_TYPE_UNSUPPORTED,
            message="send the body as application/json",
            headers={hdrs.ACCEPT: "application/json"},
        )
    return content


def _is_json(request: web.Request) -> bool:
    # JSON is UTF-8 between systems (RFC 8259 §8.1); another charset would be read as something else.
    return request.content_type in _TYPES and (request.charset or "utf-8").lower() in ("utf-8", "utf8")


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise _malformed("nested too deeply") from None
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise _malformed(f"not JSON{place}") from None
    if not isinstance(document, dict):
        raise _malformed("not an object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of one document must not disagree about what it says.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _malformed("a key is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise _malformed(f"{name} is not JSON")


def _malformed(reason: str) -> RegistryError:
    return RegistryError(ErrorCode.MALFORMED_JSON, message=f"the body is not acceptable JSON: {reason}")
