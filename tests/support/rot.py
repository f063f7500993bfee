"""Stores whose bytes rot, and scrubs that look for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from regserver.content.pace import at_once
from regserver.content.scrub import START, Finding, Scrubber
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.storage.blobs.port import Pace, Rehashed, StoreFailed
from regserver.storage.catalog.scrub import Position
from support.memory_blobs import MemoryBlobStore
from support.store import Store


class RottingStore(MemoryBlobStore):
    """``meanwhile`` happens once, when a blob has been opened to be read; ``read`` answers in place of the store."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        self.answers: list[Rehashed | StoreFailed] = []

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, StoreFailed):
                raise answer
            return answer
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return await super().rehash(key, digest, pace)

    def flip(self, content: bytes, bit: int = 0) -> None:
        ((place, stored),) = [
            (place, old) for place, old in self.files.published.items() if place[1] == Digest.of(content)
        ]
        rotten = bytearray(stored)
        rotten[bit // 8] ^= 1 << (bit % 8)
        self.files.published[place] = bytes(rotten)

    def lose(self, content: bytes) -> bytes:
        (place,) = [place for place in self.files.published if place[1] == Digest.of(content)]
        return self.files.published.pop(place)


async def scrub(store: Store, pace: Pace = at_once, **how: Any) -> list[Finding]:
    found: list[Finding] = []
    scrubber = Scrubber(store.core, store.collector, pace, found.append, **how)
    await scrubber.measure()
    position: Position | None = START
    while position is not None:
        position = await scrubber.step(position)
    return found


async def refused(answer: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(RegistryError) as raised:
        await answer
    return raised.value.code


async def audited(store: Store, action: str) -> list[tuple[Any, ...]]:
    return await store.core.db.fetch(
        "SELECT registry, image, digest, detail FROM audit WHERE action = $1 ORDER BY registry", action
    )
