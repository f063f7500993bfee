"""Lines of the access log for answers that are given again: what does not change of them is formatted once, and they
are written together, a moment later."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from regserver.web import middleware
from regserver.web.facts import Facts

WRITE_SECONDS: Final = 0.05  # how long a line may wait; a process that is killed loses so much of them
_CREATED: Final = 253402300799.0  # the time in the line that is formatted once: the last second of the year 9999
_CREATED_TEXT: Final = "9999-12-31T23:59:59.000Z"


class Line:
    """The line of one answer, but for when it was given and the request's id."""

    def __init__(self, request: web.Request, facts: Facts, sent: int) -> None:
        facts.sent = sent
        self.fields = middleware.fields(request, facts, 200, 0.0)
        self._made_by: logging.Formatter | None = None
        self._pieces: tuple[str, ...] | None = None

    def record(self, created: float, identity: str) -> logging.LogRecord:
        extra = {**self.fields, "request_id": identity}
        record = middleware.access.makeRecord(
            middleware.access.name, logging.INFO, __file__, 0, "request", (), None, extra=extra
        )
        record.created = created
        return record

    def text(self, formatter: logging.Formatter, when: str, identity: str) -> str | None:
        """As the formatter would write it; None where its lines cannot be taken apart."""
        if self._made_by is not formatter:
            self._made_by, self._pieces = formatter, self._taken_apart(formatter)
        if self._pieces is None:
            return None
        before, between, after = self._pieces
        return f"{before}{when}{between}{identity}{after}\n"

    def _taken_apart(self, formatter: logging.Formatter) -> tuple[str, ...] | None:
        identity = str(self.fields["request_id"])
        before, _, rest = formatter.format(self.record(_CREATED, identity)).partition(_CREATED_TEXT)
        pieces = (before, *rest.split(identity))
        return pieces if len(pieces) == 3 else None


class Lines:
    """Waiting lines. Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Line, float, bytes]] = []
        self._when = (0, "")

    def add(self, line: Line, created: float, identity: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(WRITE_SECONDS, self.flush)
        self._waiting.append((line, created, identity))

    def flush(self) -> None:
        """Writes what waits, in the order in which it was answered."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not middleware.access.isEnabledFor(logging.INFO):
            return
        handler = _only_handler()
        texts = [self._text(handler, *item) for item in waiting] if handler is not None else []
        if handler is None or None in texts:
            for line, created, identity in waiting:
                middleware.access.handle(line.record(created, identity.decode()))
            return
        handler.acquire()
        try:
            handler.stream.write("".join(text for text in texts if text))
            handler.flush()
        except Exception:  # a log that cannot be written stops nobody, as in logging itself
            handler.handleError(waiting[0][0].record(time.time(), ""))
        finally:
            handler.release()

    def _text(self, handler: logging.StreamHandler[Any], line: Line, created: float, identity: bytes) -> str | None:
        ms = int(created * 1000)
        if ms != self._when[0]:
            at = datetime.fromtimestamp(ms / 1000, UTC)
            self._when = ms, at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
        return line.text(handler.formatter, self._when[1], identity.decode()) if handler.formatter else None


def _only_handler() -> logging.StreamHandler[Any] | None:
    """Where the access log goes if it goes to one stream; None if something else is set up."""
    handlers = [*middleware.access.handlers, *logging.getLogger().handlers]
    if len(handlers) == 1 and isinstance(handlers[0], logging.StreamHandler) and not handlers[0].filters:
        return handlers[0]
    return None
