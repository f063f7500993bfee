"""What the server was asked: each request with its answer's status and its moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from aiohttp import web


@dataclass(slots=True, eq=False)
class Request:
    """One request. ``at``: when it came, in seconds of ``time.monotonic``; ``status`` is 0 until its answer begins."""

    method: str
    path: str  # without its query
    at: float
    status: int = 0

    def matches(self, on: str) -> bool:
        """``on``: ``METHOD PATH``, each may hold ``*`` for any text, slashes too, ``?`` and ``[…]`` (fnmatch)."""
        return fnmatchcase(f"{self.method} {self.path}", on)


class Requests(list[Request]):
    """In the order in which they came. The server's thread appends; a test reads."""

    def matching(self, on: str) -> list[Request]:
        """Those that match ``METHOD PATH``; see ``Request.matches``."""
        return [request for request in self if request.matches(on)]

    def note(self, request: web.Request) -> None:
        """Before anything is done: a client that has its answer finds the request here."""
        seen = request[SEEN] = Request(request.method, request.path, time.monotonic())
        self.append(seen)


SEEN: Final = web.RequestKey("seen", Request)


async def note_status(request: web.Request, response: web.StreamResponse) -> None:
    """Before the first byte of the answer leaves."""
    if SEEN in request:
        request[SEEN].status = response.status
