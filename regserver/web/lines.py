"""Lines of the access log for answers that cost little: what does not change of them is formatted once, and they are
written together, a moment later."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from regserver import logs
from regserver.web import middleware

WRITE_SECONDS: Final = 0.05  # how long a line may wait; a process that is killed loses so much of them
_CREATED: Final = 253402300799.0  # the time in the line that is formatted once: the last second of the year 9999
_CREATED_TEXT: Final = "9999-12-31T23:59:59.000Z"
_TEXT, _NUMBER = "zz{}zz", 7_000_000_000
_PLACE: Final = re.compile(rf"{_CREATED_TEXT}|zz(\w+?)zz|(70000000\d\d)")
_PLAIN: Final = re.compile(r"[\w./:+$-]+", re.ASCII)  # what every formatter writes as it is
_TOKENISH: Final = re.compile(r"eyJ|rsv_")  # what one may want to hide

Fields = Mapping[str, Any]


def record(fields: Fields, created: float) -> logging.LogRecord:
    made = middleware.access.makeRecord(
        middleware.access.name, logging.INFO, __file__, 0, "request", (), None, extra=dict(fields)
    )
    made.created = created
    return made


class Lines:
    """Waiting lines. Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fields, float, bytes]] = []
        self._when = (0, "")
        self._form: _Form | None = None

    def add(self, fields: Fields, created: float, identity: bytes) -> None:
        """``fields`` are those of every line; the id of the request takes the place of theirs."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(WRITE_SECONDS, self.flush)
        self._waiting.append((fields, created, identity))

    def flush(self) -> None:
        """Writes what waits, in the order in which it was answered."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not middleware.access.isEnabledFor(logging.INFO):
            return
        handler = _only_handler()
        if handler is None or handler.formatter is None:
            for fields, created, identity in waiting:
                middleware.access.handle(record({**fields, "request_id": identity.decode()}, created))
            return
        if self._form is None or self._form.formatter is not handler.formatter:
            self._form = _Form(handler.formatter, waiting[0][0])
        text = "".join([self._text(self._form, *item) for item in waiting])
        handler.acquire()
        try:
            handler.stream.write(text)
            handler.flush()
        except Exception:  # a log that cannot be written stops nobody, as in logging itself
            handler.handleError(record(*waiting[0][:2]))
        finally:
            handler.release()

    def _text(self, form: _Form, fields: Fields, created: float, identity: bytes) -> str:
        ms = int(created * 1000)
        if ms != self._when[0]:
            at = datetime.fromtimestamp(ms / 1000, UTC)
            self._when = ms, at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
        return form.text(fields, created, self._when[1], identity.decode())


class _Form:
    """What a formatter makes of such a line, taken apart at the places of its fields."""

    def __init__(self, formatter: logging.Formatter, fields: Fields) -> None:
        self.formatter = formatter
        names, marked = list(fields), {}
        for number, name in enumerate(names):
            marked[name] = _NUMBER + number if isinstance(fields[name], int | float) else _TEXT.format(name)
        text, self._pieces, at = formatter.format(record(marked, _CREATED)), [], 0
        for place in _PLACE.finditer(text):
            name = place[1] or (names[int(place[2]) - _NUMBER] if place[2] else "")
            self._pieces.append((text[at : place.start()], name))
            at = place.end()
        self._rest = text[at:] + "\n"
        self._is_whole = sorted(name for _, name in self._pieces) == sorted(["", *names])

    def text(self, fields: Fields, created: float, when: str, identity: str) -> str:
        if not self._is_whole or not all(map(_is_plain, {**fields, "request_id": identity}.values())):
            return self.formatter.format(record({**fields, "request_id": identity}, created)) + "\n"
        values = {**fields, "request_id": identity, "": when}
        return "".join([f"{before}{values[name]}" for before, name in self._pieces]) + self._rest


def _is_plain(value: object) -> bool:
    return not isinstance(value, str) or (_PLAIN.fullmatch(value) is not None and not _TOKENISH.search(value))


def _only_handler() -> logging.StreamHandler[Any] | None:
    """Where the access log goes if it goes to one stream; None if something else is set up. The filter that adds the
    request's id has nothing to add: these lines say it themselves."""
    handlers = [*middleware.access.handlers, *logging.getLogger().handlers]
    if len(handlers) != 1 or not isinstance(handlers[0], logging.StreamHandler):
        return None
    return handlers[0] if set(handlers[0].filters) <= {logs.of_request} else None
