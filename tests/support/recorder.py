"""A TCP relay before a registry that notes the requests passing through: what a client sent, whatever it prints."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

REQUEST = re.compile(rb"(GET|HEAD|POST|PATCH|PUT|DELETE) (/[^ \r\n]*) HTTP/1\.1\r\n")


class Recorder:
    """Use `host` instead of the registry's; `requests` are the (method, path?query) pairs so far."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._streams: list[bytearray] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        with self._lock:
            return [(m[1].decode(), m[2].decode()) for stream in self._streams for m in REQUEST.finditer(stream)]

    def clear(self) -> None:
        """Forget what was noted. Connections stay open."""
        with self._lock:
            for stream in self._streams:
                stream.clear()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket) -> None:
        stream = bytearray()
        with self._lock:
            self._streams.append(stream)
        name, _, port = self._upstream.rpartition(":")
        with client, socket.create_connection((name, int(port))) as server:
            back = threading.Thread(target=self._copy, args=(server, client, None), daemon=True)
            back.start()
            self._copy(client, server, stream)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, stream: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                if stream is not None:
                    with self._lock:
                        stream += part
                target.sendall(part)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def record(upstream: str) -> Iterator[Recorder]:
    recorder = Recorder(upstream)
    thread = threading.Thread(target=recorder.serve, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.close()
        thread.join()
