"""Files as answers. The kernel moves the bytes; a client that reads slowly, or has gone, holds no thread.

The file is open before the headers leave, so its bytes are sent to the end even if it is unlinked meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import hdrs, web

from regserver.storage.blobs.port import StoreFailed
from regserver.web.context import SERVICES
from regserver.web.facts import FACTS

SMALL: Final = 64 * 1024  # up to here: one read, one write
PIECE: Final = 8 * 2**20  # bytes asked of one sendfile
COPY: Final = 256 * 1024  # bytes per step where the kernel cannot do it (TLS)
TURN_SECONDS: Final = 0.2  # how long one client may keep a thread while others wait

_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="send")


async def send_file(
    request: web.Request, fd: int, offset: int, length: int, headers: Mapping[str, str], status: int = 200
) -> web.StreamResponse:
    """Answers with ``length`` bytes of ``fd`` from ``offset`` on, and closes ``fd`` whatever happens.

    The caller has checked the length against the file. Raises StoreFailed, before any header has left, when a small
    file is shorter all the same; later the connection is cut, because the length is promised.
    """
    try:
        if length <= SMALL:
            return _small(fd, offset, length, headers, status)
        return await _large(request, fd, offset, length, headers, status)
    finally:
        os.close(fd)


def _small(fd: int, offset: int, length: int, headers: Mapping[str, str], status: int) -> web.Response:
    content = os.pread(fd, length, offset)
    if len(content) != length:
        raise StoreFailed("a blob's file is shorter than it was")
    return web.Response(status=status, headers=headers, body=content)


async def _large(
    request: web.Request, fd: int, offset: int, length: int, headers: Mapping[str, str], status: int
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={**headers, hdrs.CONTENT_LENGTH: str(length)})
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has left")
    idle = request.app[SERVICES].settings.body_idle_seconds
    encrypted = transport.get_extra_info("sslcontext") is not None
    if not encrypted:
        transport.set_write_buffer_limits(high=0)  # "drained" means empty: the file's bytes go around the buffer
    try:
        async with asyncio.timeout(idle):
            await response.prepare(request)
            await request.writer.drain()
        if encrypted:
            await _copy(request, response, fd, offset, length, idle)
        else:
            await _hand_over(request, transport, fd, offset, length, idle)
        transport.set_write_buffer_limits()
    except (OSError, TimeoutError):  # the client left or does not read, or the file has shrunk: no answer can follow
        response.force_close()
        transport.abort()
    return response


async def _hand_over(
    request: web.Request, transport: asyncio.WriteTransport, fd: int, offset: int, length: int, idle: float
) -> None:
    """From file to socket in a pool thread until the socket is full, then without a thread until it is not.

    On a descriptor of our own: the transport may close its own at any moment, and the number may mean another client.
    """
    facts, end = request[FACTS], offset + length
    facts.sent = 0
    out = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while offset < end:
            if transport.is_closing():
                raise ConnectionResetError("the client has left")
            sent, full = await _turn(out, fd, offset, end - offset)
            offset += sent
            facts.sent += sent
            if full:
                await _writable(out, idle)
    finally:
        os.close(out)


async def _turn(out: int, fd: int, offset: int, count: int) -> tuple[int, bool]:
    turn = asyncio.get_running_loop().run_in_executor(_pool, _sendfile, out, fd, offset, count)
    try:
        return await asyncio.shield(turn)
    finally:
        if not turn.done():  # cancelled: the thread still uses the descriptors that the callers are about to close
            await asyncio.wait((turn,))


def _sendfile(out: int, fd: int, offset: int, count: int) -> tuple[int, bool]:
    """Bytes sent, and whether the socket is full. ``out`` does not block. Raises OSError, also where the file ends."""
    sent, until = 0, time.monotonic() + TURN_SECONDS
    while sent < count and time.monotonic() < until:
        try:
            piece = os.sendfile(out, fd, offset + sent, min(count - sent, PIECE))
        except BlockingIOError:
            return sent, True
        if not piece:
            raise OSError("a blob's file is shorter than it was")
        sent += piece
    return sent, False


async def _writable(out: int, idle: float) -> None:
    """Until the client has taken something. Raises TimeoutError after ``idle`` seconds."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(out, ready.set)
    try:
        async with asyncio.timeout(idle):
            await ready.wait()
    finally:
        loop.remove_writer(out)


async def _copy(
    request: web.Request, response: web.StreamResponse, fd: int, offset: int, length: int, idle: float
) -> None:
    """The same through memory, for a connection that is encrypted."""
    facts, end = request[FACTS], offset + length
    facts.sent = 0
    loop = asyncio.get_running_loop()
    while offset < end:
        reading = loop.run_in_executor(_pool, os.pread, fd, min(COPY, end - offset), offset)
        try:
            piece = await asyncio.shield(reading)
        finally:
            if not reading.done():
                await asyncio.wait((reading,))
        if not piece:
            raise OSError("a blob's file is shorter than it was")
        async with asyncio.timeout(idle):
            await response.write(piece)
        offset += len(piece)
        facts.sent += len(piece)
