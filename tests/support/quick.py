"""A registry as `support.registry` serves it, with one more listener whose connections give kept answers again."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from aiohttp import web

from regserver.serving import _connections
from regserver.web.connection import Room
from regserver.web.kept import KEPT, Kept
from support.pushing import Registry
from support.wire import RawAnswer, Wire, head

BEFORE = 2  # so often a head must be asked before its answer is one that can be given again


@dataclasses.dataclass(frozen=True)
class Line:
    """One kept-alive connection to the quick listener."""

    wire: Wire
    kept: Kept

    async def ask(self, method: str, path: str, credentials: str | None = None, *lines: str) -> RawAnswer:
        await self.wire.send(asking(method, path, credentials, *lines))
        return await self.wire.answer(method)

    async def is_given(self, method: str, path: str, credentials: str | None = None) -> bool:
        """Whether the answer, a 200, comes without anything being run."""
        before = self.kept.given
        assert (await self.ask(method, path, credentials)).status == 200
        return self.kept.given > before

    async def warm(self, method: str, path: str, credentials: str | None = None) -> RawAnswer:
        """Asks until the answer is a kept one, and gives it."""
        for _ in range(BEFORE):
            assert (await self.ask(method, path, credentials)).status == 200
        before = self.kept.given
        answer = await self.ask(method, path, credentials)
        assert self.kept.given == before + 1, "the answer was not kept"
        return answer


@dataclasses.dataclass(frozen=True)
class Quick:
    port: int
    kept: Kept

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        try:
            yield Line(Wire(reader, writer), self.kept)
        finally:
            writer.transport.abort()  # what it has sent and nobody reads must not hold a test up


@contextlib.asynccontextmanager
async def quick(registry: Registry) -> AsyncIterator[Quick]:
    server, app = registry.client.server, registry.client.app
    kept = app[KEPT]  # type: ignore[index]
    assert isinstance(server.runner, web.AppRunner)
    make = _connections(server.runner, Room(1000), kept)
    listener = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield Quick(listener.sockets[0].getsockname()[1], kept)
    finally:
        listener.close()


def asking(method: str, path: str, credentials: str | None = None, *lines: str) -> str:
    return head(method, path, *([f"Authorization: {credentials}"] if credentials else []), *lines)
