"""Answers that are asked for again and again, given without running anything: the bytes that were sent, under the bytes
that asked for them, the token included.

The catalog stays the only authority (ADR 13). An answer is kept with every row that it rests on. It is given again
while the catalog says that nobody has committed since, or else after the same reads have found the same rows. What
cannot be said by rows is not kept: a request that wrote, that was counted against a limit, whose credentials can be
guessed at.

``--kept-answers-bytes 0`` leaves all of it out, as TLS and PostgreSQL do: then connections are plain ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

from aiohttp import EMPTY_PAYLOAD, hdrs, web

from regserver.model.ids import Series
from regserver.storage import evidence
from regserver.storage.evidence import Evidence, Witness
from regserver.web.connection import Connection, Room
from regserver.web.facts import FACTS
from regserver.web.health import Lifecycle
from regserver.web.lines import Line, Lines

MOST_HEAD: Final = 16 * 1024  # bytes of a request's head
MOST_BODY: Final = 64 * 1024
SEEN: Final = 8192  # heads remembered that came once; the second time makes a kept answer
OVERHEAD: Final = 2048  # bytes of an entry besides what it holds, about

_END: Final = b"\r\n\r\n"
_VARY: Final = frozenset({hdrs.DATE.lower(), "x-request-id"})  # headers that each answer has its own of

Run = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Entry:
    """``head``: the answer up to the headers that vary. ``state``: of the catalog, when this was last seen to stand."""

    head: bytes
    body: bytes
    evidence: Evidence
    state: int
    line: Line
    size: int


class Kept:
    """The answers of one process. Used from its event loop."""

    def __init__(self, witness: Witness, lifecycle: Lifecycle, most_bytes: int, clock: Callable[[], float] = time.time):
        self._witness, self._lifecycle, self._most_bytes, self._clock = witness, lifecycle, most_bytes, clock
        self._entries: dict[bytes, Entry] = {}
        self._bytes = 0
        self._seen: dict[int, None] = {}
        self._lines = Lines()
        self._ids = Series("req")
        self._looked = False
        self._state: int | None = None
        self._now = 0.0
        self._date = (0, b"")
        self.given = self.refuted = 0

    def find(self, head: bytes) -> Entry | None:
        """What may be answered to these bytes now, or None."""
        entry = self._entries.get(head)
        if entry is None or self._lifecycle.draining:
            return None
        if not self._looked:
            self._look()
        if entry.evidence.until > self._now and (entry.state == self._state or self._stands(entry)):
            return entry
        self.refuted += 1
        self._drop(head)
        return None

    def _look(self) -> None:
        """Once per turn of the loop. What is read in this turn had begun to arrive before the turn began, so nothing
        that was asked after a commit had been answered, by whomever, is held against an older state."""
        self._looked = True
        asyncio.get_running_loop().call_soon(self._turn_over)
        self._state, self._now = self._witness.state(), self._clock()
        self._ids.begin()
        if int(self._now) != self._date[0]:
            self._date = int(self._now), f"Date: {formatdate(int(self._now), usegmt=True)}\r\nX-Request-Id: ".encode()

    def _turn_over(self) -> None:
        self._looked = False

    def _stands(self, entry: Entry) -> bool:
        """Somebody has committed something: does it concern this? The state was looked at before, so what is committed
        while this reads is found by the next look."""
        if self._state is None or not self._witness.agrees(entry.evidence.reads):
            return False
        entry.state = self._state
        return True

    def render(self, entry: Entry) -> bytes:
        """The answer as it is sent now; what every such answer notes is noted."""
        self.given += 1
        for note in entry.evidence.notes:
            note()
        identity = self._ids.next()
        self._lines.add(entry.line, self._now, identity)
        return b"".join((entry.head, self._date[1], identity, _END, entry.body))

    def wants(self, head: bytes) -> bool:
        """Whether an answer to it would be kept: it came before, a short while ago."""
        if len(head) > MOST_HEAD or not head.startswith((b"GET ", b"HEAD ")):
            return False
        mark = hash(head)
        if mark in self._seen:
            return True
        self._seen[mark] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        return False

    def begin(self) -> Evidence | None:
        state = self._witness.state()
        return None if state is None else Evidence(state)

    def keep(self, head: bytes, request: web.BaseRequest, response: web.StreamResponse, found: Evidence) -> None:
        """Keeps a whole answer that was a function of its evidence; anything else is left alone."""
        if found.once or not isinstance(response, web.Response) or not isinstance(request, web.Request):
            return
        if not _is_plain(request, response):
            return
        body = response.body if request.method == hdrs.METH_GET else b""
        if not isinstance(body, bytes) or len(body) > MOST_BODY:
            return
        headers = "".join(
            f"{name}: {value}\r\n" for name, value in response.headers.items() if name.lower() not in _VARY
        )
        start = f"HTTP/1.1 {response.status} {response.reason}\r\n{headers}".encode()
        size = len(head) + len(start) + len(body) + OVERHEAD
        self._drop(head)
        self._entries[head] = Entry(start, body, found, found.state, Line(request, request[FACTS], len(body)), size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, head: bytes) -> None:
        entry = self._entries.pop(head, None)
        if entry is not None:
            self._bytes -= entry.size

    async def close(self, _: object = None) -> None:
        self._lines.flush()


def _is_plain(request: web.Request, response: web.Response) -> bool:
    """A 200 of known length on a connection that stays open, to a request that waits for nothing else before it."""
    return (
        response.status == 200
        and bool(response.keep_alive)
        and request.version == (1, 1)
        and hdrs.EXPECT not in request.headers
        and not response.chunked
        and hdrs.CONTENT_LENGTH in response.headers
        and FACTS in request
    )


KEPT: Final = web.AppKey("kept", Kept)


class QuickConnection(Connection):
    """Looks at what comes in before the framework does, and answers what it knows; hands everything else on untouched.

    Only at a boundary between two requests: every request that was handed on has had its whole answer, and the bytes
    that were handed on ended with the end of a head that has no body.
    """

    __slots__ = ("_answered", "_asked", "_at_boundary", "_is_over", "_kept", "_run")

    def __init__(self, manager: web.Server, room: Room, kept: Kept, **options: Any) -> None:
        super().__init__(manager, room, **options)
        self._kept = kept
        self._answered = 0
        self._at_boundary = True
        self._is_over = False
        self._asked: _Asked | None = None
        self._run: Run = manager.request_handler
        self._request_handler = self._watched

    def data_received(self, data: bytes) -> None:
        if idle := self._at_boundary and self._answered == self._request_count and not self._is_over:
            entry = self._kept.find(data)
            if entry is not None and self._may_write():
                self._give(entry)
                return
        count = self._request_count
        super().data_received(data)
        self._at_boundary = self._request_count > count and data.endswith(_END) and self._ended_with_a_head()
        if idle and self._at_boundary and self._request_count == count + 1 and self._kept.wants(data):
            self._asked = _Asked(data, self._messages[-1][0])

    def _ended_with_a_head(self) -> bool:
        """The last message has no body. If anything followed its head, it would hold the end of a head: a message of
        its own, or an error, after which the connection closes."""
        return not self._upgraded and bool(self._messages) and self._messages[-1][1] is EMPTY_PAYLOAD

    def _may_write(self) -> bool:
        return not (self._close or self._force_close or self._paused) and self.transport is not None

    def _give(self, entry: Entry) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self.transport.write(self._kept.render(entry))  # type: ignore[union-attr]

    async def _watched(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = self._asked
        if asked is None or request._message is not asked.message:
            return await self._run(request)
        asked.evidence = self._kept.begin()
        if asked.evidence is None:
            return await self._run(request)
        with evidence.collecting(asked.evidence):
            return await self._run(request)

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Called last for every request, when the whole answer has been handed to the transport."""
        super().log_access(request, response, time)
        self._answered += 1
        self._is_over = self._is_over or not response.keep_alive
        asked, self._asked = self._asked, None
        if asked is not None and request._message is asked.message and asked.evidence is not None:
            self._kept.keep(asked.head, request, response, asked.evidence)


@dataclass(slots=True)
class _Asked:
    """A head that came alone, and the message that the framework has made of it: the very object."""

    head: bytes
    message: object
    evidence: Evidence | None = None
