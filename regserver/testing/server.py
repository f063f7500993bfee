"""The server itself: `regserver serve` without its process, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import resource
import secrets
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from regserver.app import create_app
from regserver.cli.api import Api
from regserver.config import Settings
from regserver.serving import listen
from regserver.testing.faults import Faults
from regserver.testing.recording import Requests, note_status
from regserver.testing.relay import Relay
from regserver.web.kept import KEPT

if TYPE_CHECKING:
    from regserver.testing.registry import Registry

HOST = "127.0.0.1"
START_SECONDS = 60.0
DRAIN_SECONDS = 1.0
# Nothing that a test did not ask for: no limit on logins, no work in the background that reads everything.
QUIET: dict[str, Any] = {
    "failed_logins_per_minute": 0,
    "reserve_bytes": 0,
    "scrub_bytes_per_second": 0,
    "collect_interval_seconds": 0,
}


class RegistryServer:
    """A context manager; what is stored lies in ``root``. Raises what keeps the server from starting.

    ``settings`` are fields of ``regserver.config.Settings`` (``token_seconds=60``, ``max_upload_bytes=2**20``).
    ``like``: the root of a server that has ended, copied first. What it has, its signing key above all, need not be
    made again."""

    def __init__(self, root: Path, *, like: Path | None = None, **settings: Any) -> None:
        if like is not None:
            shutil.copytree(like, root)
        self.settings = Settings(root=root, host=HOST, port=0, **{**QUIET, **settings})
        self.admin_token = secrets.token_urlsafe(32)
        self.requests = Requests()
        self._relay = Relay()
        self.faults = Faults(self._relay)
        self._thread = threading.Thread(target=self._run, name="regserver", daemon=True)
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop, self._stop, port = self._ready.result(START_SECONDS)
        self.host = f"{HOST}:{port}"
        self.url = f"http://{self.host}"
        self._api = Api(self.private_url, self.admin_token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def private_url(self) -> str:
        """The same server on a port of the tests' own: what comes there meets no fault and is not recorded."""
        return f"http://{HOST}:{self._relay.port}"

    def create_registry(self, name: str | None = None, *, public: bool = False) -> Registry:
        """An empty one with a robot of its own; named ``test-…`` where no name is given."""
        from regserver.testing.registry import Registry

        name = name or f"test-{secrets.token_hex(4)}"
        if public:
            self.faults.open_registries.add(name)
        created = self._api.send("POST", "/registries", {"name": name, "public": public})
        given = self._api.get(f"/registries/{created['id']}/credentials")
        return Registry(self, name, given["username"], given["password"])

    def forget(self) -> None:
        """No faults and no requests: the next test begins."""
        self.faults.clear()
        self.requests.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        app = await create_app(self.settings, admin_token=self.admin_token)
        self._install(app)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        listener = await listen(app, self.settings, None)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)  # the limit is the tests' own
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        private = await loop.create_server(listener.server, HOST, 0)
        self._relay.port = private.sockets[0].getsockname()[1]
        self._ready.set_result((loop, stop, listener.addresses[0][1]))
        try:
            await stop.wait()
        finally:
            await self._relay.close()
            private.close()
            await listener.close(DRAIN_SECONDS)

    def _install(self, app: web.Application) -> None:
        """The record comes before the server's own middleware; faults within it, which renders what they raise."""
        if KEPT in app:
            del app[KEPT]  # answers that are kept pass by every middleware
        app.middlewares.insert(0, self._outside)
        app.middlewares.append(self._inside)
        app.on_response_prepare.append(note_status)

    def _is_private(self, request: web.Request) -> bool:
        name = request.transport.get_extra_info("sockname") if request.transport is not None else None
        return name is not None and name[1] == self._relay.port

    @web.middleware
    async def _outside(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._is_private(request):
            return await self._relay.told(request, handler)
        self.requests.note(request)
        return await handler(request)

    @web.middleware
    async def _inside(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (handler(request) if self._is_private(request) else self.faults.inject(request, handler))
