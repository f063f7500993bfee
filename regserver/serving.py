"""Serving: the listener, TLS, signals and the way out.

The order of the way out: not ready, no new connections, running requests end, background work ends, files close.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shlex
import signal
import ssl
import sys
from collections.abc import Callable

from aiohttp import web

from regserver import __version__, logs
from regserver.app import CANNOT_START, create_app, load_admin_token
from regserver.auth import admin
from regserver.config import Settings
from regserver.web import metrics, siblings
from regserver.web.connection import Connection, Room
from regserver.web.health import LIFECYCLE
from regserver.web.serverkw import SERVER_KWARGS

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
CUT_SECONDS = 2.0  # what a request gets that the drain did not wait for: its cancellation
SENT_SECONDS = 0.02  # between two looks at what is still to be sent
BACKLOG = 1024
MOST_FILES = 65_536
SPARE_FILES = 256  # descriptors for the catalog, threads, logs; a connection needs two, its own and its blob's


class ServeFailed(Exception):
    """The server cannot listen as told. One line, made for stderr."""


class Listener:
    """A served application. ``addresses`` are real ones: port 0 has become the port that was given."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server
        self.addresses = [name.getsockname()[:2] for name in server.sockets]

    async def close(self, drain_seconds: float) -> bool:
        """The way out; True if every running request came to its end.

        The drain is ours: the framework's shutdown stops reading first, so an upload under way could never end.
        """
        self._runner.app[LIFECYCLE].draining = True
        self._server.close()
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


async def listen(app: web.Application, settings: Settings, context: ssl.SSLContext | None) -> Listener:
    """Starts the application and listens. Raises ServeFailed when the address cannot be used."""
    runner = make_runner(app)
    await runner.setup()
    try:
        server = await asyncio.get_running_loop().create_server(
            _connections(runner, Room(min(settings.max_connections, (_open_files() - SPARE_FILES) // 2))),
            settings.host,
            settings.port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            backlog=BACKLOG,
        )
    except OSError as error:
        await runner.cleanup()
        reason = error.strerror or str(error)
        raise ServeFailed(f"cannot listen on {settings.host}:{settings.port}: {reason}") from None
    return Listener(runner, server)


async def listen_for_metrics(app: web.Application, settings: Settings) -> web.AppRunner | None:
    """On an address of its own, if it has one. Raises ServeFailed."""
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


def _connections(runner: web.AppRunner, room: Room) -> Callable[[], Connection]:
    manager = _manager(runner)
    loop = asyncio.get_running_loop()
    options = {name: value for name, value in SERVER_KWARGS.items() if name != "handler_cancellation"}  # the manager's
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
    """`regserver serve`: the exit code. What keeps it from starting is one line on stderr."""
    try:
        asyncio.run(serve(settings, load_admin_token(settings)))
    except (ServeFailed, *CANNOT_START) as error:
        sys.stderr.write(f"regserver: {logs.clean(str(error))}\n")
        return 1
    return 0


async def serve(settings: Settings, admin_token: str) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends at once: the store needs no goodbye."""
    stopping = _on_signals()
    context = tls_context(settings)  # before anything is opened
    app = await create_app(settings, admin_token=admin_token)
    listener = await listen(app, settings, context)
    numbers = await listen_for_metrics(app, settings)
    logger.info(
        "listening", extra={"version": __version__, "address": url_of(settings, listener), "root": settings.root}
    )
    announce(settings, listener)
    await stopping.wait()
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


def url_of(settings: Settings, listener: Listener) -> str:
    return f"{'https' if settings.tls_cert else 'http'}://{host_of(listener)}"


def host_of(listener: Listener) -> str:
    host, port = listener.addresses[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(settings: Settings, listener: Listener) -> None:
    """What a person does next, on stdout. Never a secret: only where it is."""
    host = host_of(listener)
    if settings.dev:
        host = host.replace("127.0.0.1:", "localhost:").replace("[::1]:", "localhost:")
        lines = [
            f"push   docker tag alpine {host}/my-images/alpine:v1 && docker push {host}/my-images/alpine:v1",
            f"pull   docker pull {host}/my-images/alpine:v1",
            f"stop   Ctrl-C; the data stays in {settings.root.resolve()}",
        ]
    else:
        public = settings.public_url.partition("://")[2] if settings.public_url else host
        lines = [f"login  docker login -u admin --password-stdin {public} {_token_source(settings)}"]
    sys.stdout.write("".join(f"  {line}\n" for line in lines))
    sys.stdout.flush()


def _token_source(settings: Settings) -> str:
    """A shell's redirection that gives the administrator's token."""
    if settings.admin_token_file is None and admin.VARIABLE in os.environ:
        return f'<<< "${admin.VARIABLE}"'
    return f"< {shlex.quote(str((settings.admin_token_file or settings.root / admin.FILE).resolve()))}"
