"""What the handlers of /v2 share: from the request to values, from facts to headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Final, TypeVar
from urllib.parse import quote

from aiohttp import hdrs, web

from regserver.content.core import Usage
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Reference, parse_reference
from regserver.web.context import Call
from regserver.web.facts import asked

DIGEST: Final = "Docker-Content-Digest"
UPLOAD_ID: Final = "Docker-Upload-UUID"
WARNING: Final = "Warning"
PAGE: Final = 1000  # items: what n is clamped to, and what a list without n is read in

T = TypeVar("T")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_UPLOAD = re.compile(r"[0-9a-f]{32}", re.ASCII)
_finishing: set[asyncio.Task[Any]] = set()


def repository_path(request: web.Request) -> str:
    """``/v2/<name>`` with the name as the client wrote it; it was parsed before the handler ran."""
    return f"/v2/{request.match_info['name']}"


def path_digest(request: web.Request) -> Digest:
    """Raises RegistryError DIGEST_INVALID."""
    return Digest.parse(request.match_info["digest"])


def reference_to_read(request: web.Request) -> Reference:
    """Raises RegistryError MANIFEST_UNKNOWN: nothing can be stored under a reference that is not well-formed."""
    text = request.match_info["reference"]
    try:
        return parse_reference(text)
    except RegistryError:
        raise RegistryError(ErrorCode.MANIFEST_UNKNOWN, {"reference": text[:160]}) from None


def upload_id(request: web.Request) -> str:
    """128 random bits in hex. Raises RegistryError BLOB_UPLOAD_UNKNOWN."""
    text = request.match_info["upload"]
    if not _UPLOAD.fullmatch(text):
        raise RegistryError(ErrorCode.BLOB_UPLOAD_UNKNOWN, {"upload": text[:80]})
    return text


def blob_location(request: web.Request, digest: Digest) -> str:
    return f"{repository_path(request)}/blobs/{digest}"


def upload_location(request: web.Request, upload: str) -> str:
    return f"{repository_path(request)}/blobs/uploads/{upload}"


def limit(request: web.Request) -> int | None:
    """``n``, at most PAGE (CVE-2023-2253: an unbounded n); None without. Raises RegistryError PAGINATION_INVALID."""
    text = asked(request, "n")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise RegistryError(ErrorCode.PAGINATION_INVALID, {"n": text[:20]})
    return min(int(text), PAGE)


def last(request: web.Request) -> str:
    """Where the page before ended; empty for the first. Any text will do: it is only compared."""
    return asked(request, "last") or ""


def next_page(path: str, n: int, after: str, **more: str) -> str:
    """A ``Link`` to the next page (end-8b; RFC 8288), relative to the host."""
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in {**more, "n": str(n), "last": after}.items())
    return f'<{path}?{query}>; rel="next"'


def warning(usage: Usage | None) -> dict[str, str]:
    """``Warning: 299`` (RFC 7234 §5.5) where the quota is nearly used up; docker and others show it to the person."""
    if usage is None or not usage.nearly_full:
        return {}
    return {WARNING: f'299 - "registry storage is nearly full: {usage.used} of {usage.limit} bytes are used"'}


def expected(request: web.Request) -> str | None:
    """``If-Match`` as the digest that it names, or ``*``; None without one.

    A weak tag never matches (RFC 9110 §13.1.1). Raises RegistryError REQUEST_INVALID for a list of several.
    """
    tags = [tag.strip() for value in request.headers.getall(hdrs.IF_MATCH, []) for tag in value.split(",")]
    if not tags:
        return None
    if len(tags) > 1:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message="If-Match takes one entity tag here")
    tag = tags[0]
    return tag[1:-1] if len(tag) > 1 and tag[0] == tag[-1] == '"' else "*" if tag == "*" else ""


async def to_the_end(step: Coroutine[Any, Any, T]) -> T:
    """Runs a step that must not stop half-way, even if the request that asked for it is cancelled."""
    task = asyncio.create_task(step)
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)
    return await asyncio.shield(task)


async def version(request: web.Request, call: Call) -> web.Response:
    """end-1: what speaks here. Clients learn the challenge from its 401, and check a login by its 200."""
    return web.json_response({})
