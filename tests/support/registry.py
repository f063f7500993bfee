"""A registry served in the test's own process and loop: all of it but the listener's own protocol class.

`support.served` starts one as a process instead, as a stranger would meet it.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestClient, TestServer

from regserver.app import create_app
from regserver.config import Settings
from regserver.serving import make_runner

ADMIN_TOKEN = "the-administrator-token-of-these-tests"
ADMIN = BasicAuth("admin", ADMIN_TOKEN)
ADMIN_HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

Client = TestClient[web.Request, web.Application]


def make_settings(root: Path, **changes: Any) -> Settings:
    """Settings of a test: loopback, a free port, no waiting at the end."""
    return Settings(root=root, **{"port": 0, "drain_seconds": 5, "reserve_bytes": 0, **changes})


@contextlib.asynccontextmanager
async def served_app(root: Path, **changes: Any) -> AsyncIterator[Client]:
    """A client of a registry on `root`, closed in order at the end. `changes` are fields of Settings (`dev=True`, …).

    Two after one another on the same root are a restart. The client keeps no cookies and adds no header of its own
    but Host and User-Agent; `client.app` is the application.
    """
    settings = make_settings(root, **changes)
    app = await create_app(settings, admin_token=ADMIN_TOKEN)
    async with Client(Server(app)) as client:
        yield client


class Server(TestServer):
    """With the protocol options of `regserver serve`: no decompression, long header lines, no cancelled handlers."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return make_runner(self.app)
