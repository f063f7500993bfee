"""Request bodies. What arrives is handed on as it came: nothing is decoded, and a body cut short is an error.

The framework sets no limit in time to a body. Two are set here: how long it may be silent, and how slow it may be.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Final

from aiohttp import StreamReader, hdrs, web

from regserver.config import Settings
from regserver.content.core import Body
from regserver.errors import ErrorCode, RegistryError
from regserver.web.facts import FACTS
from regserver.web.takeover import take_over

BATCH: Final = 2**20  # bytes handed on at once: one thread job each
LEAST_BATCH: Final = 128 * 1024
MEMORY: Final = 24 * 2**20  # what all batches that are being filled may hold together, before LEAST_BATCH
MAX_DOCUMENT_BYTES: Final = 64 * 2**10  # of a body under /v1
LEAST_RATE: Final = 1024  # bytes per second over a batch; slower is a connection held for its own sake


def body(request: web.Request, settings: Settings) -> Body:
    """The body in batches of about 1 MiB, smaller ones where many uploads run at once, and the rest.

    Raises RegistryError ENCODING_UNSUPPORTED at once; while it is read REQUEST_TIMEOUT, and REQUEST_INVALID where the
    connection or the framing ends before the body does. What had arrived by then is handed on first.
    """
    _refuse_coded(request)
    return take_over(request, _batches(request, settings), settings.body_idle_seconds)


async def read(
    request: web.Request, settings: Settings, limit: int, too_large: ErrorCode = ErrorCode.BODY_TOO_LARGE
) -> bytes:
    """The whole body, at most ``limit`` bytes.

    Raises RegistryError ``too_large`` as soon as it is certain, with either framing, and what ``body`` raises.
    """
    if FACTS in request and (held := request[FACTS].content) is not None:
        return held
    refused = RegistryError(too_large, {"limit": limit})
    if (request.content_length or 0) > limit:
        raise refused
    content: list[bytes] = []
    size = 0
    _refuse_coded(request)
    async for parts in _batches(request, settings):
        content += parts
        size += sum(map(len, parts))
        if size > limit:
            raise refused
    return b"".join(content)


def _batches(request: web.Request, settings: Settings) -> _Batches:
    return _Batches(request.content, request.content_length, settings.body_idle_seconds)


def _refuse_coded(request: web.Request) -> None:
    codings = [value.strip().lower() for value in request.headers.getall(hdrs.CONTENT_ENCODING, [])]
    transfer = request.headers.get(hdrs.TRANSFER_ENCODING, "chunked").strip().lower()
    if any(coding not in ("", "identity") for coding in codings) or transfer != "chunked":
        raise RegistryError(ErrorCode.ENCODING_UNSUPPORTED, {"content_encoding": codings})


class _Batches(AsyncIterator[Sequence[bytes]]):
    def __init__(self, content: StreamReader, stated: int | None, idle: float) -> None:
        self._content = content
        self._stated = stated
        self._idle = idle
        self._received = 0
        self._ended = False
        self._failure: RegistryError | None = None
        _filling.add(self)

    async def __anext__(self) -> Sequence[bytes]:
        parts: list[bytes] = []
        if not self._ended:
            try:
                await self._fill(parts, max(LEAST_BATCH, min(BATCH, MEMORY // len(_filling))))
            except TimeoutError:
                self._fail(RegistryError(ErrorCode.REQUEST_TIMEOUT, {"idle_seconds": self._idle}))
            except (ConnectionError, web.RequestPayloadError):
                self._fail(RegistryError(ErrorCode.REQUEST_INVALID, message="the body ended before it was complete"))
        if parts:
            return parts
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is held that anybody else could use."""
        self._ended = True

    def _fail(self, failure: RegistryError) -> None:
        self._ended, self._failure = True, failure

    async def _fill(self, parts: list[bytes], room: int) -> None:
        loop = asyncio.get_running_loop()
        started, size = loop.time(), 0
        async with asyncio.timeout(self._idle) as timer:
            while size < room:
                part = await self._content.readany()
                if not part:
                    self._end()
                    return
                parts.append(part)
                size += len(part)
                self._received += len(part)
                now = loop.time()
                if now - started > self._idle and size < LEAST_RATE * (now - started):
                    raise TimeoutError
                timer.reschedule(now + self._idle)

    def _end(self) -> None:
        self._ended = True
        if self._stated is not None and self._stated != self._received:
            self._fail(RegistryError(ErrorCode.REQUEST_INVALID, message="the body is not as long as Content-Length"))


_filling: weakref.WeakSet[_Batches] = weakref.WeakSet()  # paces memory only: nothing is decided by it
