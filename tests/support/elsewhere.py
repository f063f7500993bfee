"""A registry of another make, of fixed answers by path: for what the real ones do not do on demand."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

Answer = tuple[int, dict[str, str], bytes]
Given = Callable[[dict[str, str]], Answer]  # of the request's headers, in lower case


class Elsewhere(http.server.ThreadingHTTPServer):
    """``answers[path]`` with its query; what is not there is 404. ``asked``: path and Authorization, in order."""

    daemon_threads = True
    answers: dict[str, Answer | Given]
    asked: list[tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def give(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        answer = self.server.answers.get(self.path, (404, {}, b""))
        if callable(answer):
            answer = answer({name.lower(): value for name, value in self.headers.items()})
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere(("127.0.0.1", 0), _Handler) as server:
        server.answers, server.asked = {}, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
