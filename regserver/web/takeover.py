"""Large bodies go from the socket into the file without passing through this process (docs/performance.md).

For a body whose length is known, on a plain connection, the transport stops reading and the store takes the bytes from
a descriptor of our own. Exactly as many are taken as belong to the body: what follows them is the next request's and
stays in the socket. When the body has ended, or nobody wants the rest of it, the connection gets its reading back,
with a parser that knows how much of the body is still to come. Everything else is read as web.streaming does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser

from regserver.content.core import Batch
from regserver.errors import ErrorCode, RegistryError
from regserver.storage.blobs.port import Waiting

LEAST: Final = 2**20  # bytes still to come: a smaller rest has arrived before this pays
TURN: Final = 8 * 2**20  # bytes asked for at once: limits and quotas are looked at between two turns
WAKE: Final = 256 * 1024  # bytes that must wait before a thread is sent for them
LEAST_RATE: Final = 1024  # bytes per second; slower is a connection held for its own sake


def take_over(request: web.Request, idle: float) -> AsyncGenerator[Batch, None] | None:
    """The request's body, the rest of it straight from its socket; None where that is not possible or does not pay.

    ``idle`` in seconds. The socket is taken when the first batch is asked for, and given back when the last one has
    been, or the generator is closed. Raises as web.streaming.body does.
    """
    transport, content, stated = request.transport, request.content, request.content_length
    if not hasattr(os, "splice") or stated is None or stated - content.total_bytes < LEAST:
        return None
    if transport is None or content.is_eof() or transport.get_extra_info("sslcontext") is not None:
        return None
    return _batches(request.protocol, content, stated, idle)


async def _batches(
    connection: web.RequestHandler, content: StreamReader, stated: int, idle: float
) -> AsyncGenerator[Batch, None]:
    with suppress(ConnectionError, web.RequestPayloadError):
        taken = _Taken(connection, content, stated)
        try:
            yield taken.parts
            while taken.left:
                batch = taken.batch()
                yield batch
                taken.count(batch.taken)
                if batch.ended:
                    break
                if taken.overdue and batch.taken < LEAST_RATE * idle:
                    raise RegistryError(ErrorCode.REQUEST_TIMEOUT, {"idle_seconds": idle})
                if batch.dry and taken.left:
                    await taken.more(idle)
            else:
                return
        finally:
            await taken.give_back()
    raise RegistryError(ErrorCode.REQUEST_INVALID, message="the body ended before it was complete")


class _Taken:
    """A connection's socket in our hands, from one step of the loop, in which nothing can arrive, to another.

    ``parts``: what the parser was fed before; ``left``: the bytes of the body that it was not. Raises ConnectionError.
    """

    def __init__(self, connection: web.RequestHandler, content: StreamReader, stated: int) -> None:
        if connection.transport is None:
            raise ConnectionResetError("the client has left")
        self.parts = _drained(content)
        self.left = stated - content.total_bytes
        self.overdue = False
        self._connection, self._content, self._transport = connection, content, connection.transport
        self._transport.pause_reading()
        self._socket: socket.socket = connection.transport.get_extra_info("socket")
        self._fd = os.dup(self._socket.fileno())
        self._wake(min(self.left, WAKE))
        self._gone = asyncio.ensure_future(content.wait_eof())  # fails when the connection is lost

    def batch(self) -> Waiting:
        """As many bytes as may be taken next, none of them the next request's."""
        return Waiting(self._fd, min(self.left, TURN))

    def count(self, taken: int) -> None:
        self.left -= taken
        self._content.total_bytes += taken
        if 0 < self.left < WAKE:
            self._wake(self.left)

    async def more(self, idle: float) -> None:
        """Until enough has come, or the sender has ended; after ``idle`` seconds what there is must do (``overdue``).

        Raises ConnectionError where the connection is lost, or was closed by us."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._fd, _resolve, ready)
        try:
            await asyncio.wait({ready, self._gone}, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._fd)
        if self._gone.done():
            raise ConnectionResetError("the connection was lost")
        self.overdue = not ready.done()

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
        parser = _parser(self._connection)
        if self.left:
            rest: Any = _Rest(self._connection, self._content, self.left, parser)
            self._connection._parser = rest
            self._transport.resume_reading()
        else:
            self._connection._parser = parser
            self._content.feed_eof()  # resumes the transport

    def _wake(self, count: int) -> None:
        """socket(7), SO_RCVLOWAT: a slow sender costs a thread's time once for so many bytes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _drained(content: StreamReader) -> list[bytes]:
    """What has arrived. Reading may have the parser go on with what it held back; afterwards it holds nothing, since a
    body of known length that is not complete has everything that came."""
    parts = []
    while part := content.read_nowait():
        parts.append(part)
    return parts


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


class _Rest:
    """In the parser's place until a body that was left half-way has ended: as many bytes as are left are the body's."""

    def __init__(
        self, connection: web.RequestHandler, content: StreamReader, left: int, after: HttpRequestParser
    ) -> None:
        self._connection, self._content, self._left, self._after = connection, content, left, after

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        part, rest = data[: self._left], data[self._left :]
        self._left -= len(part)
        if part:
            self._content.feed_data(part)
        if self._left:
            return (), False, b""
        self._connection._parser = self._after
        self._content.feed_eof()
        return self._after.feed_data(rest)

    def pause_reading(self) -> None:
        """The transport's is enough: nothing is held back here."""

    def message_consumed(self) -> None:
        """None is queued behind a body that is still coming."""
