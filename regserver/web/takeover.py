"""Large bodies go from the socket into the file without passing through the framework (docs/performance.md).

On a plain connection the transport stops reading, and the store takes the bytes from a descriptor of our own: spliced
where the body's length is known, in the framing of web.framing where it comes in chunks. What follows the body is the
next request's: it stays in the socket, or goes to the parser. When the body has ended, or nobody wants the rest of it,
the connection gets its reading back, with a parser that knows how much of the body is still to come. Everything else is
read as web.streaming does.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import HttpRequestParser

from regserver.content.core import Batch, Body
from regserver.errors import ErrorCode, RegistryError
from regserver.storage.blobs.port import Waiting
from regserver.web.framing import Chunked, Counted

LEAST: Final = 2**20  # bytes still to come, or that have come in chunks: a smaller body is over before this pays
TURN: Final = 8 * 2**20  # bytes asked for at once: limits and quotas are looked at between two turns
TURN_OF_CHUNKS: Final = 2 * 2**20  # the same where nobody knows how many come
WAKE: Final = 256 * 1024  # bytes that must wait before a thread is sent for them
PIECE: Final = 256 * 1024  # read to find out where in a chunk the parser is
LEAST_RATE: Final = 1024  # bytes per second; slower is a connection held for its own sake

_BEGUN = re.compile(rb"\r\n([0-9a-fA-F]{1,15})\r\n\Z")


def take_over(request: web.Request, otherwise: Body, idle: float) -> Body:
    """The request's body, straight from its socket as far as that is possible and pays; else as ``otherwise`` reads it.

    ``idle`` in seconds. The socket is taken when a batch is asked for, and given back when the last one has been, or
    the generator is closed. Raises as web.streaming.body does.
    """
    if (
        not hasattr(os, "splice")
        or request.transport is None
        or request.transport.get_extra_info("sslcontext") is not None
        or request.content.is_eof()
    ):
        return otherwise
    stated = request.content_length
    if stated is not None:
        return _counted(request, stated, idle) if stated - request.content.total_bytes >= LEAST else otherwise
    return otherwise if hdrs.CONTENT_RANGE in request.headers else _in_chunks(request, otherwise, idle)


async def _counted(request: web.Request, stated: int, idle: float) -> AsyncGenerator[Batch, None]:
    """A body of known length that is not complete has everything that came: the parser holds nothing back."""
    if (transport := request.transport) is None or request.content.exception() is not None:
        raise _short()
    parts = _drained(request.content)
    taken = _Taken(request, transport, Counted(stated - request.content.total_bytes))
    async with aclosing(_batches(taken, parts, idle)) as batches:
        async for batch in batches:
            yield batch


async def _in_chunks(request: web.Request, otherwise: Body, idle: float) -> AsyncGenerator[Batch, None]:
    async with aclosing(otherwise):
        async for batch in otherwise:
            yield batch
            if request.content.total_bytes < LEAST:
                continue
            parts, taken = _found(request)
            if taken is None:
                yield parts
                continue
            async with aclosing(_batches(taken, parts, idle)) as batches:
                async for batch in batches:
                    yield batch
            return


async def _batches(taken: _Taken, parts: list[bytes], idle: float) -> AsyncGenerator[Batch, None]:
    framing = taken.framing
    try:
        yield parts
        while not framing.complete:
            batch = taken.batch()
            yield batch
            taken.count(batch)
            if batch.ended:
                break
            if taken.overdue and batch.taken < LEAST_RATE * idle:
                raise RegistryError(ErrorCode.REQUEST_TIMEOUT, {"idle_seconds": idle})
            if batch.dry and not framing.complete and not await taken.more(idle):
                break
    finally:
        await taken.give_back()
    if framing.broken or not framing.complete:
        raise _short()


def _short() -> RegistryError:
    return RegistryError(ErrorCode.REQUEST_INVALID, message="the body ended before it was complete")


def _found(request: web.Request) -> tuple[list[bytes], _Taken | None]:
    """What has arrived of a chunked body, and the rest of it, unless it cannot be told how much of a chunk is to come.

    We read a piece ourselves and have the parser decode it. If a chunk began in it, then behind the end of the one
    before stand the new one's size and as many bytes of its data as the parser has counted since.
    """
    connection, content, transport = request.protocol, request.content, request.transport
    if transport is None or content.exception() is not None or content.is_eof():
        return [], None
    transport.pause_reading()
    parts, before, piece = _drained(content), content.total_bytes, b""
    if not content.is_eof():
        with suppress(OSError):
            piece = os.read(transport.get_extra_info("socket").fileno(), PIECE)
            web.RequestHandler.data_received(connection, piece)
    ends = content._http_chunk_splits
    end = ends[-1] if ends else 0
    begun = content.total_bytes - end
    found = _BEGUN.search(piece[: len(piece) - begun]) if end > before and 0 < begun < len(piece) else None
    left = int(found[1], 16) - begun if found else 0
    if content.exception() is None:
        parts += _drained(content)
    if left > 0 and not content.is_eof() and content.exception() is None:
        return parts, _Taken(request, transport, Chunked(left))
    if not connection._reading_paused and not connection._buffer_paused:
        transport.resume_reading()
    return parts, None


class _Taken:
    """A connection's socket in our hands, from one step of the loop, in which nothing can arrive, to another."""

    def __init__(self, request: web.Request, transport: asyncio.Transport, framing: Counted | Chunked) -> None:
        self.framing = framing
        self.overdue = False
        self._connection, self._content, self._transport = request.protocol, request.content, transport
        self._transport.pause_reading()
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._fd = os.dup(self._socket.fileno())
        self._gone = asyncio.ensure_future(self._content.wait_eof())  # fails when the connection is lost

    def batch(self) -> Waiting:
        """As many bytes as may be taken next."""
        if isinstance(self.framing, Counted):
            return Waiting(self._fd, min(self.framing.left, TURN))
        return Waiting(self._fd, TURN_OF_CHUNKS, self.framing)

    def count(self, batch: Waiting) -> None:
        self._content.total_bytes += batch.taken
        if isinstance(self.framing, Counted):
            self.framing.passed(batch.taken)

    async def more(self, idle: float) -> bool:
        """Until enough has come, or the sender has ended; after ``idle`` seconds what there is must do (``overdue``).
        False where the connection is lost, or was closed by us."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        self._wake(min(self.framing.sure, WAKE))
        loop.add_reader(self._fd, _resolve, ready)
        try:
            await asyncio.wait({ready, self._gone}, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._fd)
        self.overdue = not ready.done()
        return not self._gone.done()

    async def give_back(self) -> None:
        self._wake(1)
        os.close(self._fd)
        lost = self._gone.done()
        self._gone.cancel()
        await asyncio.wait({self._gone})
        if not self._gone.cancelled():
            self._gone.exception()
        if lost or self._connection.transport is None:
            return
        rest: Any = _Rest(self._connection, self._content, self.framing)
        self._connection._parser = rest
        if rest.end():
            self._connection.data_received(self.framing.rest)
        self._transport.resume_reading()

    def _wake(self, count: int) -> None:
        """socket(7), SO_RCVLOWAT: a slow sender costs a thread's time once for so many bytes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _drained(content: StreamReader) -> list[bytes]:
    """What has arrived. Reading has the parser go on with what it held back, until it holds nothing."""
    parts = []
    while part := content.read_nowait():
        parts.append(part)
    return parts


class _Rest:
    """In the parser's place until a body that we took has ended. What stands behind it goes to a new parser."""

    def __init__(self, connection: web.RequestHandler, content: StreamReader, framing: Counted | Chunked) -> None:
        self._connection, self._content, self._framing = connection, content, framing

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        if not self._framing.complete and data:
            for part in self._framing.decode(memoryview(data)):
                self._content.feed_data(bytes(part))
            if self.end():
                parser: Any = self._connection._parser
                return parser.feed_data(self._framing.rest)  # type: ignore[no-any-return]
        return (), False, b""

    def end(self) -> bool:
        """If the body has ended: so it does for whoever reads it, and the connection's parser is a new one."""
        if self._framing.broken:
            self._content.set_exception(web.RequestPayloadError("the body's framing is broken"))
        elif self._framing.complete:
            self._connection._parser = _parser(self._connection)
            self._content.feed_eof()
            return True
        return False

    def pause_reading(self) -> None:
        """The transport's is enough: nothing is held back here."""

    def message_consumed(self) -> None:
        """None is queued behind a body that is still coming."""


def _parser(connection: web.RequestHandler) -> HttpRequestParser:
    """A new one, as the connection made its own: it begins with the next request."""
    return HttpRequestParser(
        connection,
        connection._loop,
        connection._read_bufsize,
        max_line_size=connection.max_line_size,
        max_field_size=connection.max_field_size,
        max_headers=connection.max_headers,
        payload_exception=web.RequestPayloadError,
        auto_decompress=False,
        max_msg_queue_size=connection._max_msg_queue_size,
    )
