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
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Final, cast

from aiohttp import EMPTY_PAYLOAD, hdrs, web

from regserver.counting import Answered, Cache, Numbers
from regserver.model.access import Access
from regserver.model.ids import Series
from regserver.storage import evidence
from regserver.storage.evidence import Evidence, Witness
from regserver.web import middleware, plain
from regserver.web.challenge import client_address
from regserver.web.connection import Connection, Room
from regserver.web.context import Call
from regserver.web.facts import FACTS, Facts
from regserver.web.health import Lifecycle
from regserver.web.lines import Fields, Lines
from regserver.web.plain import PlainRequest, PlainRoute, Routes

MOST_HEAD: Final = 16 * 1024  # bytes of a request's head
MOST_BODY: Final = 64 * 1024
SEEN: Final = 8192  # heads remembered that came once; the second time makes a kept answer
CALLS: Final = 4096  # decisions remembered
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
    fields: Fields  # of its line in the log
    row: Answered  # where such requests are counted
    size: int


@dataclass(slots=True)
class Known:
    """A decision, and what it rests on."""

    call: Call
    evidence: Evidence
    state: int


class Kept:
    """The answers of one process. Used from its event loop."""

    def __init__(
        self,
        witness: Witness,
        lifecycle: Lifecycle,
        most_bytes: int,
        routes: Routes,
        numbers: Numbers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``routes``: who answers plain requests; without any all of them are left to the framework."""
        self._numbers = numbers
        self._witness, self._lifecycle, self._most_bytes, self._clock = witness, lifecycle, most_bytes, clock
        self._routes = routes
        self._calls: OrderedDict[tuple[str | None, Access, str], Known] = OrderedDict()
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._bytes = 0
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._lines = Lines()
        self._ids = Series("req")
        self._looked = False
        self._state: int | None = None
        self._now = 0.0
        self._date = (0, b"")
        self.given = self.refuted = self.run = 0

    def answer(self, head: bytes, peer: object) -> bytes | None:
        """What may be answered to these bytes now, or None; what every such answer notes has been noted."""
        if self._lifecycle.draining:
            return None
        entry = self._entries.get(head)
        if entry is None or not self._is_good(head, entry):
            self._numbers.cached(Cache.ANSWERS, hit=False)
            return self._run(head, peer) if self._routes and head.endswith(_END) and len(head) <= MOST_HEAD else None
        self.given += 1
        self._numbers.cached(Cache.ANSWERS, hit=True)
        for note in entry.evidence.notes:
            note()
        return self._render(entry)

    def _is_good(self, head: bytes, entry: Entry) -> bool:
        if not self._looked:
            self._look()
        if self._is_standing(entry):
            return True
        self.refuted += 1
        self._drop(head)
        return False

    def _run(self, head: bytes, peer: object) -> bytes | None:
        """The first time, or the second, when the answer is kept."""
        read = plain.read(head, self._routes, peer)
        if read is None:
            return None
        if not self._looked:
            self._look()
        request, route = read
        known = self._call(request, route)
        if known is None or self._state is None:
            return None
        found = Evidence(self._state, list(known.evidence.reads), known.evidence.until, list(known.evidence.notes))
        response = plain.at_once(route.route.handler(cast(web.Request, request), known.call), found)
        if not isinstance(response, web.Response) or response.status != 200:
            return None
        whole = b"" if response.body is None else response.body
        if not isinstance(whole, bytes):
            return None
        self.run += 1
        body = whole if request.method == hdrs.METH_GET else b""
        middleware.mark(request.path, response)
        response.headers.setdefault(hdrs.CONTENT_LENGTH, str(len(whole)))
        row = self._numbers.row(request.method, route.template, response.status)
        entry = _entry(head, request, request.facts, response, body, found, row)
        if self.wants(head) and len(body) <= MOST_BODY and not found.once:
            self._put(head, entry)
        return self._render(entry)

    def _call(self, request: PlainRequest, route: PlainRoute) -> Known | None:
        """Who asks and what they may, as it was decided for the same credentials before, while that stands."""
        key = request.headers.get(hdrs.AUTHORIZATION), route.route.access, request.match_info["name"]
        known = self._calls.get(key)
        if known is not None and self._is_standing(known):
            for note in known.evidence.notes:
                note()
            request.facts.subject = known.call.caller.account.subject
            address = client_address(cast(web.Request, request), known.call.services.settings)
            caller = replace(known.call.caller, address=address, request_id="")
            return Known(replace(known.call, caller=caller), known.evidence, known.state)
        if self._state is None:
            return None
        found = Evidence(self._state)
        call = plain.at_once(route.decide(request), found)
        if call is None:
            return None
        self._calls[key] = known = Known(call, found, self._state)
        if len(self._calls) > CALLS:
            self._calls.popitem(last=False)
        return known

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

    def _is_standing(self, entry: Entry | Known) -> bool:
        """Where somebody has committed something: does it concern this? The state was looked at before, so what is
        committed while this reads is found by the next look."""
        if entry.evidence.until <= self._now:
            return False
        if entry.state == self._state:
            return True
        if self._state is None or not self._witness.agrees(entry.evidence.reads):
            return False
        entry.state = self._state
        return True

    def _render(self, entry: Entry) -> bytes:
        """The answer as it is sent now."""
        identity = self._ids.next()
        self._lines.add(entry.fields, self._now, identity)
        entry.row.seconds.observe(0.0)  # microseconds: within the first bound
        entry.row.sent += len(entry.body)
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
            self._seen.popitem(last=False)
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
        resource = request.match_info.route.resource
        if resource is not None:
            row = self._numbers.row(request.method, resource.canonical, response.status)
            self._put(head, _entry(head, request, request[FACTS], response, body, found, row))

    def _put(self, head: bytes, entry: Entry) -> None:
        self._drop(head)
        self._entries[head] = entry
        self._bytes += entry.size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, head: bytes) -> None:
        entry = self._entries.pop(head, None)
        if entry is not None:
            self._bytes -= entry.size

    async def close(self, _: object = None) -> None:
        self._lines.flush()


def _entry(
    head: bytes, request: Any, facts: Facts, response: web.Response, body: bytes, found: Evidence, row: Answered
) -> Entry:
    fixed = [f"{name}: {value}\r\n" for name, value in response.headers.items() if name.lower() not in _VARY]
    start = f"HTTP/1.1 {response.status} {response.reason}\r\n{''.join(fixed)}".encode()
    facts.sent = len(body)
    fields = middleware.fields(request, facts, response.status, 0.0)
    return Entry(start, body, found, found.state, fields, row, len(head) + len(start) + len(body) + OVERHEAD)


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
            answer = self._kept.answer(data, self.peername) if data and self._may_write() else None
            if answer is not None:
                self._give(answer)
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

    def _give(self, answer: bytes) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self.transport.write(answer)  # type: ignore[union-attr]

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
