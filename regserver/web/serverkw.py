"""How the HTTP server is built. Each value answers a trap of the framework; a test holds every one of them."""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp.http_exceptions import HttpProcessingError

# A body's bytes in memory per connection: two of these at most, and one read of the transport.
READ_BUFFER: Final = 256 * 1024


class _Unquoted(logging.Filter):
    """The framework logs a malformed request with a traceback that quotes it, credentials and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
            record.msg, record.args, record.exc_info = "malformed request: %s", (type(error).__name__,), None
        return True


_logger = logging.getLogger("regserver.http")
_logger.addFilter(_Unquoted())

SERVER_KWARGS: Final[dict[str, Any]] = {
    "auto_decompress": False,  # 48 KB of gzip would become 50 MB: a coded body is refused instead (web.streaming)
    "read_bufsize": READ_BUFFER,
    "max_line_size": 32 * 1024,  # a token with 40 scopes takes 7.5 KB
    "max_field_size": 32 * 1024,
    "keepalive_timeout": 75.0,
    "lingering_time": 0,  # after an early answer web.middleware drains, within bounds
    "handler_cancellation": False,  # a client that leaves must not leave half a step behind
    "logger": _logger,
    "access_log": None,  # web.middleware writes the one line
}
