"""Logs: one line per event on stderr, as text or JSON. Nothing that a client sends can forge or recolour a line.

Secrets are kept out where lines are written; the pattern here is the second fence, for what an exception may quote.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

_SECRETS = re.compile(r"eyJ[\w-]{8,}\.[\w.-]+|rsv_\w{8,}|(?i:\b(basic|bearer))\s+[\w.~+/-]{8,}=*")
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
# The request that a line belongs to, whoever writes it and wherever; work that a request has begun keeps its id.
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(log_format: str, stream: TextIO | None = None) -> None:
    """Sends every logger of the process to ``stream`` (stderr) from INFO on. ``log_format``: text or json."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(of_request)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def of_request(record: logging.LogRecord) -> bool:
    """Adds the id of the request that is being answered, unless the record says one itself."""
    request_id = REQUEST.get()
    if request_id is not None and not hasattr(record, "request_id"):
        record.request_id = request_id
    return True


def clean(text: str) -> str:
    """The text on one line: control characters escaped, what looks like a credential replaced."""
    return _SECRETS.sub("[redacted]", text.translate(_ESCAPED))


class TextFormatter(logging.Formatter):
    """``2026-01-15T10:30:00.123Z INFO regserver.serving listening address=127.0.0.1:5000``"""

    def format(self, record: logging.LogRecord) -> str:
        pairs = [f"{name}={_quoted(clean(str(value)))}" for name, value in _extra(record).items()]
        head = f"{_time(record)} {record.levelname} {record.name} {clean(record.getMessage())}"
        return "\n    | ".join([" ".join([head, *pairs]), *(clean(line) for line in _trace(record))])


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, logger, message, the event's own fields, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        for name, value in _extra(record).items():
            event.setdefault(name, value if isinstance(value, int | float | None) else clean(str(value)))
        if trace := _trace(record):
            event["traceback"] = [clean(line) for line in trace]
        return json.dumps(event, allow_nan=False, default=str)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r'[\s="]', text) else text


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    return "".join(traceback.format_exception(record.exc_info[1])).splitlines()
