"""A server that answers what a test tells it to, for what a real one does not do on demand."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

Reply = tuple[int, dict[str, str], bytes]


class Scripted(http.server.ThreadingHTTPServer):
    """Answers one reply after the other, the last one for ever, and remembers what it was asked."""

    daemon_threads = True
    replies: list[Reply]
    asked: list[tuple[str, str, str | None]]  # method, path, Authorization
    sent: list[object]  # the JSON bodies, in their order

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, status: int, document: object = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append((status, named, b"" if document is None else json.dumps(document).encode()))


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        if length := int(self.headers["Content-Length"] or 0):
            self.server.sent.append(json.loads(self.rfile.read(length)))
        replies = self.server.replies
        status, headers, body = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""


@contextlib.contextmanager
def scripted() -> Iterator[Scripted]:
    with Scripted(("127.0.0.1", 0), _Handler) as server:
        server.replies, server.asked, server.sent = [], [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
