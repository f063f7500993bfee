"""Passing a request on to the server's other port, its body or its answer's spoiled on the way, as a proxy would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict
from yarl import URL

PIECES = 16  # of a slow body
_BODILESS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_DELETE, hdrs.METH_OPTIONS})
# RFC 9110 §7.6.1, and what the next hop says for itself.
_OF_THE_HOP = (hdrs.CONNECTION, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_LENGTH, hdrs.EXPECT, "Keep-Alive", hdrs.DATE)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A body as it is sent. ``stated``: its Content-Length; ``seconds``: how long it takes; ``drop``: the connection
    ends with it."""

    body: bytes
    stated: int
    seconds: float = 0.0
    drop: bool = False

    async def pieces(self) -> AsyncIterator[bytes]:
        if not self.seconds:
            yield self.body
            return
        step = max(1, -(-len(self.body) // PIECES))
        cuts = range(0, len(self.body), step) or [0]
        for start in cuts:
            await asyncio.sleep(self.seconds / len(cuts))
            yield self.body[start : start + step]


class Dropped(Exception):
    """This is where the connection ends."""


class Relay:
    """Holds bodies in memory: only those that a fault happens to come through here."""

    def __init__(self) -> None:
        self.port = 0  # where the server answers without faults
        self._session: aiohttp.ClientSession | None = None
        self._served = asyncio.Event()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def told(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request on the other port: a body that was cut has been dealt with when its handler ends."""
        try:
            return await handler(request)
        finally:
            self._served.set()

    async def pass_on(self, request: web.Request, spoil: Callable[[bytes], Spoiled]) -> tuple[web.StreamResponse, bool]:
        """The answer, and whether anything was spoiled: a refused pull is passed on as it came."""
        if request.method in _BODILESS:
            return await self._spoil_answer(request, spoil)
        return await self._spoil_body(request, spoil), True

    async def _spoil_answer(
        self, request: web.Request, spoil: Callable[[bytes], Spoiled]
    ) -> tuple[web.StreamResponse, bool]:
        async with self._send(request, None) as answer:
            content = await answer.read()
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            return web.Response(status=answer.status, headers=_without(answer.headers), body=content), False
        response = web.StreamResponse(status=answer.status, headers=_without(answer.headers))
        spoiled = spoil(content)
        response.content_length = spoiled.stated
        await response.prepare(request)
        async for piece in spoiled.pieces():
            await response.write(piece)
        if spoiled.drop:
            _end(request, response)
        return response, True

    async def _spoil_body(self, request: web.Request, spoil: Callable[[bytes], Spoiled]) -> web.StreamResponse:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # an interim answer is not the answer
        spoiled = spoil(b"".join([chunk async for chunk in request.content.iter_any()]))

        async def body() -> AsyncIterator[bytes]:
            async for piece in spoiled.pieces():
                yield piece
            if spoiled.drop:
                raise Dropped

        self._served.clear()
        try:
            async with self._send(request, body(), spoiled.stated) as answer:
                return web.Response(status=answer.status, headers=_without(answer.headers), body=await answer.read())
        except (Dropped, aiohttp.ClientError):
            await self._served.wait()  # what has arrived is kept before the client can come again
            response = web.Response()
            _end(request, response)
            return response

    def _send(
        self, request: web.Request, body: AsyncIterator[bytes] | None, length: int | None = None
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        url = URL.build(scheme="http", host="127.0.0.1", port=self.port).join(URL(request.raw_path, encoded=True))
        headers = _without(request.headers)
        if length is not None:
            headers[hdrs.CONTENT_LENGTH] = str(length)
        return self._session.request(
            request.method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=[hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE],
        )


def _without(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in _OF_THE_HOP:
        kept.popall(name, None)
    return kept


def _end(request: web.Request, response: web.StreamResponse) -> None:
    """The client gets what was written, and then nothing more."""
    response.force_close()
    if request.transport is not None:
        request.transport.close()
