"""The process is killed while clients push and somebody follows: each push that was acknowledged is told once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from yarl import URL

from support.crowd import GONE, push_blob, put, ready
from support.invariants import opened
from support.ledger import Image
from support.registry import served_process

ROUNDS, PUSHERS = 6, 6
CONFIG = b"{}"


class Pushes:
    """Every push is of a tag of its own."""

    def __init__(self) -> None:
        self.begun: set[tuple[str, str]] = set()
        self.acknowledged: set[tuple[str, str]] = set()
        self._numbers = itertools.count()

    async def go_on(self, session: aiohttp.ClientSession) -> None:
        while True:
            number = next(self._numbers)
            image, tag = Image((CONFIG, CONFIG, *[CONFIG] * (number % 7))), f"v{number}"
            self.begun.add((tag, image.digest))
            await put(session, tag, image)
            self.acknowledged.add((tag, image.digest))


class Follower:
    """Comes again after every crash, with the last id that it has seen."""

    def __init__(self) -> None:
        self.place = "0"
        self.seen: list[tuple[int, str, str]] = []

    async def follow(self, session: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": self.place}
        identity = ""
        async with session.get("/v1/events?type=pushed", headers=headers, timeout=None) as response:
            async for raw in response.content:
                name, _, value = raw.decode().strip().partition(": ")
                if name == "id":
                    identity = value
                elif name == "data":
                    event = json.loads(value)
                    self.seen.append((event["id"], event["reference"], event["digest"]))
                elif not name and identity:
                    self.place = identity


async def work_until_killed(url: URL, kill: object, pushes: Pushes, follower: Follower, seconds: float) -> None:
    async with aiohttp.ClientSession(url) as session:
        await push_blob(session, CONFIG, random.Random(0))
        tasks = [asyncio.create_task(pushes.go_on(session)) for _ in range(PUSHERS)]
        tasks.append(asyncio.create_task(follower.follow(session)))
        await asyncio.sleep(seconds)
        kill()  # type: ignore[operator]
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, (*GONE, aiohttp.ClientPayloadError)) or ended is None, ended


async def test_each_acknowledged_push_has_exactly_one_event(tmp_path: Path) -> None:
    root, pushes, follower, ways = tmp_path / "root", Pushes(), Follower(), random.Random(6)
    for number in range(ROUNDS):
        with served_process(root, "--dev") as server:
            await ready(server.url)
            before = len(pushes.acknowledged)
            await work_until_killed(server.url, server.process.kill, pushes, follower, ways.uniform(0.3, 1.2))
            server.process.wait()
        told, tagged = pushed_events(root), set(set_tags(root))
        assert [identity for identity, *_ in told] == sorted(identity for identity, *_ in told)
        counted = Counter((tag, digest) for _, tag, digest in told)
        assert set(counted.values()) <= {1}, f"after kill {number}"
        assert pushes.acknowledged <= set(counted) <= pushes.begun
        assert set(counted) == tagged, "none without its push"
        assert len(pushes.acknowledged) > before, "there was something to lose"
    with served_process(root, "--dev") as server:
        await ready(server.url)
        async with aiohttp.ClientSession(server.url) as session:
            following = asyncio.create_task(follower.follow(session))
            async with asyncio.timeout(30):
                while len(follower.seen) < len(told):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
    assert follower.seen == told, "who follows through every crash has heard each once, in order"


def pushed_events(root: Path) -> list[tuple[int, str, str]]:
    return list(rows(root, "SELECT id, reference, digest FROM events WHERE type = 'pushed' ORDER BY id"))


def set_tags(root: Path) -> Iterator[tuple[str, str]]:
    yield from rows(root, "SELECT name, digest FROM tag_events WHERE digest IS NOT NULL")  # type: ignore[misc]


def rows(root: Path, sql: str) -> list[tuple[int, str, str]]:
    with opened(root) as catalog:
        return list(catalog.execute(sql))
