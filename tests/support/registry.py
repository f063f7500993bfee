"""A registry served in the test's own process and loop: all of it but the listener's own protocol class.

`support.served` starts one as a process instead, as a stranger would meet it; `Process` here is that process itself,
for tests of how it starts and ends.
"""

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import DummyCookieJar, encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import StrOrURL
from yarl import URL

from regserver.app import create_app
from regserver.config import Settings
from regserver.serving import make_runner
from support.description import Watch, recording
from support.environment import clean_environment

PATIENCE_SECONDS = 30.0  # longer than anything should take; what waits longer has failed
ADMIN_TOKEN = "the-administrator-token-of-these-tests"
ADMIN = encode_basic_auth("admin", ADMIN_TOKEN)  # an Authorization header
ADMIN_HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

Client = TestClient[web.Request, web.Application]


def make_settings(root: Path, **changes: Any) -> Settings:
    """Settings of a test: loopback, a free port, no waiting at the end."""
    settings = {"port": 0, "drain_seconds": 5, "reserve_bytes": 0, "database": database_of(root)}
    settings["event_stream_seconds"] = 0  # a stream of events ends with what is there, unless a test follows it
    return Settings(root=root, **{**settings, **changes})


def on_database(root: Path, url: str) -> Path:
    """From now on, whatever is started on this root has its catalog there."""
    root.with_name(f"{root.name}.database").write_text(url)
    return root


def database_of(root: Path) -> str | None:
    note = root.with_name(f"{root.name}.database")
    return note.read_text() if note.exists() else None


def served_by(root: Path, workers: int) -> Path:
    """From now on, whatever is served on this root in the test's own process is so many applications, which share the
    folder and nothing else; each request goes to the next one of them."""
    root.with_name(f"{root.name}.workers").write_text(str(workers))
    return root


def workers_of(root: Path) -> int:
    note = root.with_name(f"{root.name}.workers")
    return int(note.read_text()) if note.exists() else 1


class Alternating(Client):
    """A client of servers that are one registry. ``server`` and ``app`` are the first one's."""

    def __init__(self, servers: Sequence["Server"]) -> None:
        super().__init__(servers[0], cookie_jar=DummyCookieJar())
        self._turns = itertools.cycle(servers)

    def make_url(self, path: StrOrURL) -> URL:
        return next(self._turns).make_url(path)


@contextlib.asynccontextmanager
async def served_app(root: Path, **changes: Any) -> AsyncIterator[Client]:
    """A client of a registry on `root`, closed in order at the end. `changes` are fields of Settings (`dev=True`, …).

    Two after one another on the same root are a restart. The client keeps no cookies and adds no header of its own
    but Host and User-Agent; `client.app` is the application. Every answer of /v1 is held against its description.
    """
    settings, watch = make_settings(root, **changes), Watch()
    with recording():
        async with contextlib.AsyncExitStack() as opened:
            servers = []
            for _ in range(workers_of(root)):
                app = await create_app(settings, admin_token=ADMIN_TOKEN)
                app.middlewares.insert(0, watch.middleware)
                servers.append(Server(app))
                await opened.enter_async_context(servers[-1])
            yield await opened.enter_async_context(Alternating(servers))
    if watch.faults:
        raise AssertionError("answers and description differ:\n" + "\n".join(watch.faults))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens in this loop. The test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Process:
    """`regserver serve` on a port that it chose itself, its log as JSON, its end in the test's hands."""

    def __init__(self, process: subprocess.Popen[str], log: Path, url: str) -> None:
        self.process = process
        self.url = URL(url)
        self._log = log

    @property
    def address(self) -> tuple[str, int]:
        return str(self.url.host), int(self.url.port or 0)

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return events(self._log)

    @property
    def messages(self) -> list[str]:
        return [event["message"] for event in self.events]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def wait_until_it_refuses(self) -> None:
        """Until the listener is closed, which tells that the signal has arrived."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(self.address, timeout=PATIENCE_SECONDS).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.01)
        raise TimeoutError("the listener is still open")


@contextlib.contextmanager
def served_process(root: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """A started server; killed at the end if the test has not ended it. Its log is a file beside ``root``."""
    log = root.with_name(f"{root.name}.log")
    if url := database_of(root):
        environment = {"REGSERVER_DATABASE": url, **(environment or {})}
    command = serve_command(root, "--log-format", "json", *flags)
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env=clean_environment(environment),
        )
    try:
        yield Process(process, log, _address(process, log))
    finally:
        process.kill()
        process.wait()


def fail_to_serve(root: Path, *flags: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code and stderr of a server that should not start."""
    ended = subprocess.run(
        serve_command(root, *flags),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=clean_environment(environment),
    )
    return ended.returncode, ended.stderr


def serve_command(root: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "regserver", "serve", "--root", str(root), "--listen", "127.0.0.1:0", *flags]


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def _address(process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for event in events(log):
            if event["message"] == "listening":
                return str(event["address"])
        time.sleep(0.01)
    raise RuntimeError(f"regserver did not start:\n{log.read_text()}")


class Server(TestServer):
    """With the protocol options of `regserver serve`: no decompression, long header lines, no cancelled handlers."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return make_runner(self.app)
