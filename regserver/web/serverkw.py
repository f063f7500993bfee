"""How the HTTP server is built. Each value answers a trap of the framework; a test holds every one of them."""

from __future__ import annotations

from typing import Any, Final

# A body's bytes in memory per connection: two of these at most, and one read of the transport.
READ_BUFFER: Final = 256 * 1024

SERVER_KWARGS: Final[dict[str, Any]] = {
    "auto_decompress": False,  # 48 KB of gzip would become 50 MB: a coded body is refused instead (web.streaming)
    "read_bufsize": READ_BUFFER,
    "max_line_size": 32 * 1024,  # a token with 40 scopes takes 7.5 KB
    "max_field_size": 32 * 1024,
    "keepalive_timeout": 75.0,
    "lingering_time": 0,  # after an early answer web.middleware drains, within bounds
    "handler_cancellation": False,  # a client that leaves must not leave half a step behind
    "access_log": None,  # web.middleware writes the one line
}
