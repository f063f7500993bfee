"""What the web layer learns of a request on its way, for the log line and the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from regserver.errors import ErrorCode, RegistryError

_CONTROL = r"\x00-\x1f\x7f-\x9f"
CHARACTER = f"[^{_CONTROL}]"  # of a text, in a regular expression
_TEXT = re.compile(rf"[^{_CONTROL}\ud800-\udfff]*")


@dataclass(slots=True)
class Facts:
    request_id: str
    subject: str = ""
    sent: int | None = None  # bytes of the body that really left, where they are counted
    content: bytes | None = None  # the body, where it has been read before its handler runs
    continue_owed: bool = False  # the client waits for 100 before it sends its body (RFC 9110 §10.1.1)


FACTS: Final = web.RequestKey("facts", Facts)


def one(request: web.Request, header: str) -> str | None:
    """The header's value. Raises RegistryError REQUEST_INVALID where two lines claim different things."""
    values = request.headers.getall(header, [])
    if len(values) > 1:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message=f"{header} is given more than once")
    return values[0] if values else None


def asked(request: web.Request, parameter: str) -> str | None:
    """The query parameter. Raises RegistryError REQUEST_INVALID if it is repeated, or is not text."""
    values = texts(request, parameter)
    if len(values) > 1:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message=f"{parameter} is given more than once")
    return values[0] if values else None


def texts(request: web.Request, parameter: str) -> list[str]:
    """Every value of a query parameter. Raises RegistryError REQUEST_INVALID if one is not text."""
    values = request.query.getall(parameter, [])
    if not all(map(is_text, values)):
        raise RegistryError(ErrorCode.REQUEST_INVALID, message=f"{parameter} is not text")
    return values


def is_text(value: str) -> bool:
    """Without control characters, and encodable: a percent-encoded byte that is no UTF-8 arrives as a surrogate."""
    return _TEXT.fullmatch(value) is not None


def is_answered(request: web.Request) -> bool:
    """Have headers of the answer left already?"""
    return request.writer.output_size > 0
