"""Blobs: end-2 (GET, HEAD) and end-10 (DELETE)."""

from __future__ import annotations

import os

from aiohttp import hdrs, web

from regserver.model.digest import Digest
from regserver.oci.base import DIGEST, path_digest
from regserver.web.context import Call
from regserver.web.facts import one
from regserver.web.ranges import ByteRange, matches, parse_range
from regserver.web.sending import send_file


def _headers(digest: Digest) -> dict[str, str]:
    return {
        DIGEST: str(digest),
        hdrs.ETAG: f'"{digest}"',
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_TYPE: "application/octet-stream",
    }


def _is_known(request: web.Request, digest: Digest) -> bool:
    tags = request.headers.getall(hdrs.IF_NONE_MATCH, [])
    return matches(",".join(tags) if tags else None, f'"{digest}"')


async def head(request: web.Request, call: Call) -> web.Response:
    """Answers for the whole blob: a Range is a matter of GET (RFC 9110 §14.2)."""
    digest = path_digest(request)
    size = await call.services.blobs.stat(call.repository, call.caller, digest)
    headers = _headers(digest)
    if _is_known(request, digest):
        return web.Response(status=304, headers=headers)
    return web.Response(headers={**headers, hdrs.CONTENT_LENGTH: str(size)})


async def get(request: web.Request, call: Call) -> web.StreamResponse:
    digest = path_digest(request)
    file = await call.services.blobs.open(call.repository, digest)
    try:
        headers = _headers(digest)
        if _is_known(request, digest):
            os.close(file.fd)
            return web.Response(status=304, headers=headers)
        span = _span(request, digest, file.size)
    except BaseException:
        os.close(file.fd)
        raise
    if span is None:
        return await send_file(request, file.fd, 0, file.size, headers)
    headers[hdrs.CONTENT_RANGE] = span.content_range(file.size)
    return await send_file(request, file.fd, span.start, span.length, headers, status=206)


def _span(request: web.Request, digest: Digest, size: int) -> ByteRange | None:
    """The part that is asked for; the whole where If-Range names other content (RFC 9110 §13.1.5)."""
    condition = one(request, hdrs.IF_RANGE)
    if condition is not None and condition.strip() != f'"{digest}"':
        return None
    asked = request.headers.getall(hdrs.RANGE, [])
    return parse_range(asked[0], size) if len(asked) == 1 else None


async def delete(request: web.Request, call: Call) -> web.Response:
    await call.services.blobs.delete(call.repository, call.caller, path_digest(request))
    return web.Response(status=202)
