"""HTTP byte by byte, for what no client library would send."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

from support.pushing import Registry

PATIENCE_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class RawAnswer:
    status: int
    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = (line.partition(": ") for line in self.head.splitlines()[1:])
        return {name.lower(): value for name, _, value in lines}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Wire:
    """One connection. Whatever takes longer than PATIENCE_SECONDS raises TimeoutError."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes | str) -> None:
        for piece in pieces:
            self.writer.write(piece.encode() if isinstance(piece, str) else piece)
        await asyncio.wait_for(self.writer.drain(), PATIENCE_SECONDS)

    async def answer(self, method: str = "GET") -> RawAnswer:
        """The next answer; an interim one has no body, and neither has what a HEAD gets."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).decode()
        found = RawAnswer(int(head.split(" ", 2)[1]), head.strip(), b"")
        if method == "HEAD" or found.status in (100, 204, 304):
            return found
        return dataclasses.replace(found, body=await asyncio.wait_for(self._body(found), PATIENCE_SECONDS))

    async def _body(self, found: RawAnswer) -> bytes:
        if "content-length" in found.headers:
            return await self.reader.readexactly(int(found.headers["content-length"]))
        if found.headers.get("transfer-encoding") != "chunked":
            return await self.reader.read()
        content = b""
        while size := int(await self.reader.readline(), 16):
            content += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return content

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset is a close."""
        received = []
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(self.reader.read(2**16), PATIENCE_SECONDS):
                received.append(piece)
        return b"".join(received)


@contextlib.asynccontextmanager
async def connected(registry: Registry) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", registry.client.port, limit=2**20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(method: str, path: str, *lines: str, version: str = "1.1") -> str:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *lines, "", ""])


def length(content: bytes | int) -> str:
    return f"Content-Length: {content if isinstance(content, int) else len(content)}"


CHUNKED = "Transfer-Encoding: chunked"
EXPECT = "Expect: 100-continue"
CLOSE = "Connection: close"
