"""Following the events of a registry that `support.registry` serves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse

from support.pushing import Registry

NONE: Mapping[str, str] = {}
PATIENCE_SECONDS = 30.0  # longer than anything should take; what waits longer has failed


@dataclass(frozen=True)
class Block:
    """What came between two empty lines."""

    event: str
    identity: str | None
    data: Any


class Stream:
    """One stream as its client reads it."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id: str | None = None
        self.comments: list[str] = []

    async def block(self) -> Block | None:
        """The next one; None at the end. A block without data is no event, and is gone over."""
        while True:
            fields: dict[str, str] = {}
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    break
                name, _, value = line.rstrip("\n").partition(": ")
                (self.comments.append(value) if not name else fields.update({name: value}))
            else:
                return None
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                return Block(fields["event"], fields.get("id"), json.loads(fields["data"]))

    async def until(self, wanted: Callable[[Block], bool]) -> list[Block]:
        """All up to the one that is wanted."""
        found: list[Block] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not found or not wanted(found[-1]):
                block = await self.block()
                assert block is not None, found
                found.append(block)
        return found

    async def rest(self) -> list[Block]:
        """All up to the end."""
        found: list[Block] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (block := await self.block()) is not None:
                found.append(block)
        return found


@asynccontextmanager
async def following(asker: Registry, *, headers: Mapping[str, str] = NONE, **query: str) -> AsyncIterator[Stream]:
    """A stream whose place is fixed: what happens inside comes."""
    lines = dict(headers)
    if asker.credentials is not None:
        lines["Authorization"] = asker.credentials
    async with asker.client.get("/v1/events", params=query, headers=lines) as response:
        assert response.status == 200, await response.text()
        stream = Stream(response)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await response.content.readline()).startswith(b"retry:")
            stream.last_id = (await response.content.readline()).decode().strip().removeprefix("id: ")
            assert await response.content.readline() == b"\n"
        yield stream


async def history(asker: Registry, after: int = 0, **query: str) -> list[dict[str, Any]]:
    """All that is kept, where streams end by themselves (`event_stream_seconds` 0)."""
    async with following(asker, after=str(after), **query) as stream:
        *blocks, last = await stream.rest()
    assert (last.event, last.data) == ("closing", {"reason": "expired"})
    assert all(block.identity == str(block.data["id"]) and block.event == block.data["type"] for block in blocks)
    return [block.data for block in blocks]
