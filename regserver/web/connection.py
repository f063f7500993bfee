"""One client's connection, below everything that has a request: how long it may stay silent, and what it is told when
what it sends is not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from regserver.errors import ErrorCode, RegistryError
from regserver.model.ids import new_id
from regserver.web import errors

HEADER_SECONDS = 10.0  # for the first request head of a connection; between two requests the keep-alive limit holds


class Room:
    """How many connections there may be at once, so that descriptors are left for the store. Decides nothing else."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


def _in_a_version_we_speak(make: Callable[..., web.BaseRequest], message: Any, *rest: Any) -> web.BaseRequest:
    """The parser takes 0.9 and 2.0 too, and the framework would answer in them (RFC 9112 §2.3)."""
    if message.version not in (HttpVersion10, HttpVersion11):
        message = message._replace(version=HttpVersion10, should_close=True)
    return make(message, *rest)


class Connection(web.RequestHandler):
    """Its first request head must arrive in time (slow-header attacks hold a descriptor each)."""

    __slots__ = ("_room", "_silence")
    _silence: asyncio.TimerHandle | None

    def __init__(self, manager: web.Server, room: Room, **options: Any) -> None:
        super().__init__(manager, **options)
        self._room = room
        if manager.request_factory is not None:
            self._request_factory = partial(_in_a_version_we_speak, manager.request_factory)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._room.taken += 1
        if self._room.taken > self._room.most:
            self._silence = None
            self.force_close()
            return
        self._silence = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._room.taken -= 1
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        self._silence = None
        if not self._request_count:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no request gets the documented error. The framework's would quote it, credentials and all."""
        super().handle_error(request, status, exc, message)
        code = ErrorCode.REQUEST_INVALID if status < 500 else ErrorCode.INTERNAL
        response = errors.render("/v2/", RegistryError(code), new_id("req"))
        response.headers[hdrs.SERVER] = "regserver"
        response.force_close()
        return response
