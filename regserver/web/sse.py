"""Events to a client that stays: server-sent events (WHATWG HTML, "Server-sent events").

A follower is owed nothing but its place in the catalog: nothing is buffered for it beyond one page of events and what
its connection holds. One that does not read is told so and closed; it comes again with the last id that it saw. The
end is said, too: an event ``closing``, with its reason. What is lost is said by an event ``lost``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import hdrs, web

from regserver.content.events import PAGE, Chosen, Feed, Page, shown
from regserver.errors import RegistryError
from regserver.storage.sql.port import DatabaseFailed
from regserver.web.health import LIFECYCLE

MEDIA_TYPE: Final = "text/event-stream"
LAST_ID: Final = "Last-Event-ID"
BEAT_SECONDS: Final = 15.0  # between two signs of life, and two looks whether the follower still may
SLOW_SECONDS: Final = 20.0  # that a follower may take to read what fills its connection
LOOK_SECONDS: Final = 0.5  # the longest until a follower hears that the server ends
RETRY_MS: Final = 2000  # that a client waits before it comes again

Judge = Callable[[], Awaitable[frozenset[str] | None]]
"""The ids of the registries that the follower may see now, None for all. Raises RegistryError where it may not."""

_HEADERS = {
    hdrs.CONTENT_TYPE: f"{MEDIA_TYPE}; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events until its buffer is full
}


async def stream(
    request: web.Request, feed: Feed, chosen: Chosen, place: int | None, judge: Judge, seconds: float
) -> web.StreamResponse:
    """Sends what is chosen from behind ``place`` on (None: from now on), for so many seconds at the most.

    Raises RegistryError TOO_MANY_REQUESTS before anything was sent.
    """
    async with feed.followed():
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        follower = _Follower(request, response, feed, chosen, feed.last if place is None else place)
        try:
            await follower.follow(judge, seconds)
        except (ConnectionError, _TooSlow):
            if request.transport is not None:
                request.transport.close()  # after what is on its way; nobody waits for it here
        return response


class _TooSlow(Exception):
    """What was sent is not read."""


class _Follower:
    def __init__(
        self, request: web.Request, response: web.StreamResponse, feed: Feed, chosen: Chosen, place: int
    ) -> None:
        self._request = request
        self._response = response
        self._feed = feed
        self._chosen = chosen
        self._place = place
        self._beat = 0.0

    async def follow(self, judge: Judge, seconds: float) -> None:
        """Raises ConnectionError when the client has gone, _TooSlow."""
        clock = asyncio.get_running_loop().time
        end, self._beat = clock() + seconds, clock() + BEAT_SECONDS
        await self._send(f"retry: {RETRY_MS}\nid: {self._place}\n\n")
        reason = None
        while reason is None:
            try:
                page = await self._feed.after(self._place)
            except DatabaseFailed:
                reason = "unavailable"
                break
            await self._tell(page)
            reason = await self._over(judge, clock())
            if reason is None and len(page.rows) < PAGE:
                left = end - clock()
                reason = "expired" if left <= 0 else None
                await self._feed.news(self._place, min(LOOK_SECONDS, max(0.0, left)))
        await self._send(_block("closing", {"reason": reason}))

    async def _over(self, judge: Judge, now: float) -> str | None:
        """Why the stream ends now, if it does; a sign of life where it is time for one."""
        if self._request.transport is None or self._request.transport.is_closing():
            raise ConnectionResetError
        if self._request.app[LIFECYCLE].draining:
            return "shutdown"
        if now < self._beat:
            return None
        self._beat = now + BEAT_SECONDS
        try:
            self._chosen = replace(self._chosen, visible=await judge())
        except RegistryError:
            return "unauthorized"
        await self._send(f": alive\nid: {self._place}\n\n")
        return None

    async def _tell(self, page: Page) -> None:
        before, self._place = self._place, page.place
        blocks = [_block(row.type, shown(row), row.id) for row in page.rows if self._chosen.takes(row)]
        if page.lost:
            begins = page.rows[0].id - 1 if page.rows else page.place
            blocks.insert(0, _block("lost", {"after": before, "until": begins}, begins))
        if blocks:
            await self._send("".join(blocks))

    async def _send(self, text: str) -> None:
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._response.write(text.encode())
        except TimeoutError:
            self._last_words(_block("closing", {"reason": "slow"}))
            raise _TooSlow from None

    def _last_words(self, text: str) -> None:
        """Behind all that is on its way, and nobody waits until it is read."""
        if self._request.transport is not None:
            content = text.encode()
            self._request.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))


def _block(event: str, data: Mapping[str, Any], identity: int | None = None) -> str:
    """JSON has no line end in it, so its one line is the whole."""
    head = "" if identity is None else f"id: {identity}\n"
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
