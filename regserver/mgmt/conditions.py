"""``ETag`` and ``If-Match`` (RFC 9110 §13.1.1): change only what you have seen."""

from __future__ import annotations

from typing import Protocol

from aiohttp import hdrs, web

from regserver.errors import ErrorCode, RegistryError


class Changing(Protocol):
    @property
    def updated_at(self) -> int:
        """Milliseconds, never the same twice."""


def etag(row: Changing) -> str:
    """Names the state of a resource's settings; what is only counted or noted of it does not change it."""
    return f'"{row.updated_at}"'


def if_match(request: web.Request) -> str | None:
    """What the client has seen: the value between the quotes, ``*``, or None where it sets no condition.

    Raises RegistryError REQUEST_INVALID for more than one value, PRECONDITION_FAILED for a weak one, which matches
    nothing.
    """
    values = request.headers.getall(hdrs.IF_MATCH, [])
    if not values:
        return None
    text = values[0].strip()
    if len(values) > 1 or "," in text:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message="send one value in If-Match")
    if text == "*":
        return text
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        raise RegistryError(ErrorCode.PRECONDITION_FAILED)
    return text[1:-1]
