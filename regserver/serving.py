"""Serving: the listener, TLS, signals and the way out.

The order of the way out: not ready, no new connections, running requests end, background work ends, files close.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from regserver import __version__, logs
from regserver.announcing import ServeFailed, announce, cannot_listen, url_of
from regserver.app import CANNOT_START, create_app, load_admin_token
from regserver.config import Settings
from regserver.web import metrics, siblings
from regserver.web.connection import Connection, Room
from regserver.web.health import LIFECYCLE
from regserver.web.kept import KEPT, Kept, QuickConnection
from regserver.web.serverkw import SERVER_KWARGS

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
CUT_SECONDS = 2.0  # what a request gets that the drain did not wait for: its cancellation
SENT_SECONDS = 0.02  # between two looks at what is still to be sent
BACKLOG = 1024
MOST_FILES = 65_536
SPARE_FILES = 256  # descriptors for the catalog, threads, logs; a connection needs two, its own and its blob's


class Listener:
    """A served application. ``addresses`` are real ones: port 0 has become the port that was given."""

    def __init__(self, runner: web.AppRunner, servers: Sequence[asyncio.Server]) -> None:
        self._runner = runner
        self._servers = servers
        self.addresses = [name.getsockname()[:2] for server in servers for name in server.sockets]

    @property
    def server(self) -> web.Server:
        """What answers on every connection: a protocol factory, for another port of the same application."""
        return _manager(self._runner)

    async def close(self, drain_seconds: float) -> bool:
        """The way out; True if every running request came to its end.

        The drain is ours: the framework's shutdown stops reading first, so an upload under way could never end.
        """
        self._runner.app[LIFECYCLE].draining = True
        for server in self._servers:
            server.close()
        try:
            async with asyncio.timeout(drain_seconds):
                await self._runner.app[LIFECYCLE].drain()
                await self._sent()
        except TimeoutError:
            return False
        finally:
            await self._runner.cleanup()
        return True

    async def _sent(self) -> None:
        """Until the answers that were written have left: the loop that sends them to slow clients is about to end."""
        while any(_unsent(connection) for connection in _manager(self._runner).connections):  # noqa: ASYNC110
            await asyncio.sleep(SENT_SECONDS)


async def listen(
    app: web.Application,
    settings: Settings,
    context: ssl.SSLContext | None,
    sockets: Sequence[socket.socket] | None = None,
) -> Listener:
    """Starts the application and listens: on the address of the settings, or on sockets that are bound already.

    Raises ServeFailed when the address cannot be used.
    """
    runner = make_runner(app)
    await runner.setup()
    room = Room(min(settings.max_connections, (_open_files() - SPARE_FILES) // 2))
    connections = _connections(runner, room, app.get(KEPT) if context is None else None)
    options: dict[str, Any] = {
        "ssl": context,
        "ssl_handshake_timeout": HANDSHAKE_SECONDS if context else None,
        "backlog": BACKLOG,
    }
    create = asyncio.get_running_loop().create_server
    try:
        if sockets is None:
            servers = [await create(connections, settings.host, settings.port, **options)]
        else:
            servers = [await create(connections, sock=one, **options) for one in sockets]
    except OSError as error:
        await runner.cleanup()
        raise cannot_listen(settings, error) from None
    return Listener(runner, servers)


async def listen_for_metrics(app: web.Application, settings: Settings) -> web.AppRunner | None:
    """On an address of its own, if it has one, of which each worker has a share. Raises ServeFailed."""
    if settings.metrics_listen is None:
        return None
    host, port = settings.metrics_listen
    runner = web.AppRunner(metrics.alone(app), access_log=None, shutdown_timeout=CUT_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, reuse_port=siblings.wanted(settings) or None).start()
    except OSError as error:
        await runner.cleanup()
        raise ServeFailed(f"cannot listen on {host}:{port} for --metrics-listen: {error.strerror or error}") from None
    logger.info("metrics", extra={"address": "{}:{}".format(*runner.addresses[0][:2])})
    return runner


def make_runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(app, shutdown_timeout=CUT_SECONDS, **SERVER_KWARGS)


def _manager(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    return runner.server


def _unsent(connection: web.RequestHandler) -> int:
    return connection.transport.get_write_buffer_size() if connection.transport is not None else 0


def _open_files() -> int:
    """How many descriptors this process may have, after asking for as many as it can get (getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    soft = max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def _connections(runner: web.AppRunner, room: Room, kept: Kept | None = None) -> Callable[[], Connection]:
    manager = _manager(runner)
    loop = asyncio.get_running_loop()
    options = {name: value for name, value in SERVER_KWARGS.items() if name != "handler_cancellation"}  # the manager's
    if kept is not None:
        return lambda: QuickConnection(manager, room, kept, loop=loop, **options)
    return lambda: Connection(manager, room, loop=loop, **options)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 and newer (RFC 8996). None without a certificate. Raises ServeFailed."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The empty passphrase: a protected key fails at once instead of asking a terminal that a service does not have.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ServeFailed(f"--tls-cert, --tls-key: {error.strerror or error}") from None
    return context


def run(settings: Settings) -> int:
    """`regserver serve` in this process: the exit code. Raises ConfigError."""
    return run_to_its_end(serve(settings, load_admin_token(settings)))


def run_to_its_end(serving: Coroutine[Any, Any, None]) -> int:
    """The exit code. What keeps it from starting is one line on stderr."""
    try:
        asyncio.run(serving)
    except (ServeFailed, *CANNOT_START) as error:
        sys.stderr.write(f"regserver: {logs.clean(str(error))}\n")
        return 1
    return 0


async def serve(settings: Settings, admin_token: str) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends at once: the store needs no goodbye."""
    stopping = _on_signals()
    async with served(settings, admin_token) as (_, listener):
        address = listener.addresses[0]
        logger.info(
            "listening", extra={"version": __version__, "address": url_of(settings, address), "root": settings.root}
        )
        announce(settings, address)
        await stopping.wait()


@asynccontextmanager
async def served(
    settings: Settings, admin_token: str, sockets: Sequence[socket.socket] | None = None
) -> AsyncIterator[tuple[web.Application, Listener]]:
    """A whole server, from what it opens to the way out; of a process of its own, or of a worker on bound sockets."""
    context = tls_context(settings)  # before anything is opened
    app = await create_app(settings, admin_token=admin_token)
    listener = await listen(app, settings, context, sockets)
    numbers = await listen_for_metrics(app, settings)
    yield app, listener
    logger.info("shutting down", extra={"drain_seconds": settings.drain_seconds})
    if not await listener.close(settings.drain_seconds):
        logger.warning("requests were cut: they did not end within the drain time")
    if numbers is not None:
        await numbers.cleanup()
    logger.info("stopped")


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping
