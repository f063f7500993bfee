"""The one place where refusals and failures become answers, where requests get their ids and their line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from regserver import logs
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.model.ids import new_id
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.sql.port import DatabaseFailed
from regserver.web import errors, metrics
from regserver.web.challenge import challenge
from regserver.web.context import SERVICES
from regserver.web.facts import FACTS, Facts, is_answered

DRAIN_BYTES: Final = 2**20  # of a body nobody wants, read so that its sender can still read the answer
DRAIN_SECONDS: Final = 1.0
SMALL: Final = 64 * 1024  # bytes of an answer that fit into the buffers of a connection
PATH_LENGTH: Final = 512  # of a path in the log

logger = logging.getLogger(__name__)
access = logging.getLogger("regserver.access")


def install(app: web.Application) -> None:
    app.middlewares.insert(0, answer)
    app.on_response_prepare.append(_mark)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Runs a request to its answer. No exception leaves it but cancellation."""
    loop = asyncio.get_running_loop()
    started, status = loop.time(), 499
    facts = request[FACTS] = Facts(new_id("req"), continue_owed=_waits(request))
    logs.REQUEST.set(facts.request_id)
    try:
        with request.app[SERVICES].core.traffic.request():
            response = await _answered(request, handler, facts)
        status = response.status
        if not request.content.is_eof():
            await _part(request, response, facts)
        if facts.sent is None:
            facts.sent = 0 if request.method == hdrs.METH_HEAD else response.content_length or response.body_length
        return response  # noqa: TRY300 - the finally below has to see its status
    except web.HTTPException as elsewhere:  # a redirection
        status = elsewhere.status
        raise
    finally:
        _log(request, facts, status, seconds := loop.time() - started)
        metrics.count(request, status, seconds, facts.sent or 0)


def _waits(request: web.Request) -> bool:
    return request.version >= (1, 1) and request.headers.get(hdrs.EXPECT, "").strip().lower() == "100-continue"


async def _answered(request: web.Request, handler: Handler, facts: Facts) -> web.StreamResponse:
    try:
        return await handler(request)
    except (web.HTTPRedirection, web.HTTPSuccessful):
        raise
    except Exception as error:  # the last line: what nobody expected is a 500 with an id, and a traceback in the log
        refusal = _refusal(error, facts)
        if is_answered(request):  # part of another answer has left: only cutting it says that it is not whole
            logger.warning("answer cut short", exc_info=error, extra={"request_id": facts.request_id})
            if request.transport is not None:
                request.transport.abort()
        if isinstance(refusal, Unauthorized):
            refusal = _challenged(request, refusal)
        return errors.render(request.path, refusal, facts.request_id)


def _refusal(error: Exception, facts: Facts) -> RegistryError:
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, web.HTTPException):
        return errors.from_http(error)
    if isinstance(error, ConnectionError):
        return RegistryError(ErrorCode.REQUEST_INVALID)  # nobody is left to read it
    extra = {"request_id": facts.request_id}
    if isinstance(error, StoreFailed | DatabaseFailed):
        logger.error("storage failed", exc_info=error, extra=extra)
        return RegistryError(ErrorCode.UNAVAILABLE)
    logger.error("unexpected error", exc_info=error, extra=extra)
    return RegistryError(ErrorCode.INTERNAL, extra)


def _challenged(request: web.Request, refusal: Unauthorized) -> RegistryError:
    try:
        refusal.headers[hdrs.WWW_AUTHENTICATE] = challenge(request, request.app[SERVICES].settings, refusal)
    except RegistryError as malformed:  # no realm can be named under such a Host
        return malformed
    return refusal


async def _part(request: web.Request, response: web.StreamResponse, facts: Facts) -> None:
    """Answers before the body is in, and lets its sender see that: a small rest is read, for a large one we wait a
    moment, then the connection closes. Closing at once would destroy the answer on its way (RFC 9112 §9.6)."""
    content = request.content
    stated = request.content_length
    rest = DRAIN_BYTES + 1 if stated is None or facts.continue_owed else stated - content.total_bytes
    if rest > DRAIN_BYTES or content.exception() is not None or response.status == ErrorCode.REQUEST_TIMEOUT.status:
        response.force_close()
    with contextlib.suppress(ConnectionError, web.RequestPayloadError, TimeoutError):
        await response.prepare(request)
        await response.write_eof()
        async with asyncio.timeout(DRAIN_SECONDS):
            until = content.total_bytes + DRAIN_BYTES
            while await content.readany() and content.total_bytes < until:
                pass
            await content.wait_eof()


def _bound_reading(request: web.Request, response: web.StreamResponse) -> None:
    """A client that asks for much and reads nothing holds memory for ever: the framework waits without limit, the
    kernel need not (TCP_USER_TIMEOUT, which also counts a window that stays shut)."""
    length, connection = response.content_length, request.transport
    if connection is not None and (length is None or length > SMALL):
        idle = request.app[SERVICES].settings.body_idle_seconds
        kernel = connection.get_extra_info("socket")
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(idle * 1000))


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    _bound_reading(request, response)
    if FACTS in request:
        response.headers["X-Request-Id"] = request[FACTS].request_id
    mark(request.path, response)


def mark(path: str, response: web.StreamResponse) -> None:
    """What every answer says. Content here comes from strangers: no browser may take it for a page of ours."""
    headers = response.headers
    headers[hdrs.SERVER] = "regserver"
    headers["X-Content-Type-Options"] = "nosniff"
    if path.startswith("/v2/"):
        headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        headers["Content-Security-Policy"] = "default-src 'none'; sandbox"


def _log(request: web.Request, facts: Facts, status: int, seconds: float) -> None:
    """Never a header, never a query: tokens and passwords live there."""
    access.info("request", extra=fields(request, facts, status, seconds))


def fields(request: web.Request, facts: Facts, status: int, seconds: float) -> dict[str, Any]:
    """Of the line of one request."""
    return {
        "method": request.method,
        "path": request.path[:PATH_LENGTH].encode("unicode_escape").decode(),
        "status": status,
        "received": request.content.total_bytes,
        "sent": facts.sent or 0,
        "ms": round(seconds * 1000, 1),
        "subject": facts.subject,
        "request_id": facts.request_id,
    }
