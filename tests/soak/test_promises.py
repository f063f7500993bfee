"""Clients push what they were told exists, after pauses of any length, while what is unused is collected every second.

A client asks for each blob, uploads what is missing, waits, and pushes its manifest. Within a lease of the first answer
no manifest may be refused for a blob: what "it exists" promised is kept, whoever deletes or collects meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.pushing import IMAGE, digest_of
from support.served import Served, Tenant, serve

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
PUSHES = int(os.environ.get("SOAK_PUSHES", "0"))  # at least so many, however long it takes
PUSHERS = 192 if PUSHES else 48
LEASE_SECONDS = 60
LATEST = LEASE_SECONDS - 8  # a manifest is sent by then, so that it arrives within the lease on a busy machine too
POOL = [random.Random(number).randbytes(400) for number in range(300)]
CONFIG = b"{}"
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass
class Tally:
    pushes: int = 0
    late: int = 0  # pushed when the first promise may have ended: nothing is claimed
    collections: int = 0
    collected: int = 0  # blobs that were gone when somebody asked for them again
    pauses: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)


class Client:
    """One that pushes; each push has a token of its own, as docker's has."""

    def __init__(self, session: aiohttp.ClientSession, tenant: Tenant, tally: Tally, ways: random.Random) -> None:
        self._session, self._tenant, self._tally, self._ways = session, tenant, tally, ways
        self._repository = f"{tenant.name}/api"

    async def push(self, tag: str, stop: asyncio.Event) -> None:
        headers = {"Authorization": f"Bearer {await self._token()}"}
        layers = self._ways.sample(POOL, 2)
        begun = time.monotonic()  # before the first question, so before any promise
        for content in (CONFIG, *layers):
            await self._bring(content, headers)
        pause = await self._pause(stop)
        late = time.monotonic() - begun > LATEST
        refusal = await self._put(tag, layers, headers)
        if late:
            self._tally.late += 1
        elif refusal is not None:
            self._tally.refused.append(f"after {pause:.1f} s: {refusal}")
        else:
            self._tally.pushes += 1
            self._tally.pauses.append(pause)

    async def delete(self, tag: str) -> None:
        headers = {"Authorization": f"Bearer {await self._token()}"}
        async with self._session.delete(f"/v2/{self._repository}/manifests/{tag}", headers=headers) as done:
            assert done.status in (202, 404), await done.text()

    async def _token(self) -> str:
        query = {"service": self._tenant.robot.host, "scope": f"repository:{self._repository}:pull,push,delete"}
        login = {"Authorization": f"Basic {self._tenant.robot.basic}"}
        async with self._session.get("/token", params=query, headers=login) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["token"])

    async def _bring(self, content: bytes, headers: dict[str, str]) -> None:
        digest = digest_of(content)
        async with self._session.head(f"/v2/{self._repository}/blobs/{digest}", headers=headers) as known:
            if known.status == 200:
                return
            assert known.status == 404
        self._tally.collected += digest in self._tally.stored
        url = f"/v2/{self._repository}/blobs/uploads/?digest={digest}"
        async with self._session.post(url, data=content, headers={**headers, **OCTETS}) as done:
            assert done.status == 201, await done.text()
        self._tally.stored.add(digest)

    async def _pause(self, stop: asyncio.Event) -> float:
        """Mostly short, sometimes nearly a lease; cut short when everybody is asked to end."""
        longest = self._ways.choices((0.05, 2.0, LATEST - 4), weights=(70, 25, 5))[0]
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._ways.uniform(0, longest)):
                await stop.wait()
        except TimeoutError:
            pass
        return time.monotonic() - begun

    async def _put(self, tag: str, layers: list[bytes], headers: dict[str, str]) -> str | None:
        """What the server said, where it refused."""
        parts = {"config": descriptor(CONFIG), "layers": [descriptor(layer) for layer in layers]}
        manifest = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, **parts}).encode()
        url = f"/v2/{self._repository}/manifests/{tag}"
        async with self._session.put(url, data=manifest, headers={**headers, "Content-Type": IMAGE}) as put:
            return None if put.status == 201 else f"{put.status} {await put.text()}"


def descriptor(content: bytes) -> dict[str, Any]:
    return {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}


async def keep_pushing(client: Client, number: int, stop: asyncio.Event) -> None:
    """Each pusher has one tag: what it pushes loses its tag with the next push, or at once."""
    while not stop.is_set():
        await client.push(f"p{number}", stop)
        if number % 3 == 0:
            await client.delete(f"p{number}")


async def keep_collecting(session: aiohttp.ClientSession, server: Served, tenant: Tenant, tally: Tally) -> None:
    headers = {"Authorization": f"Bearer {server.admin_token}"}
    url = f"/v1/registries/{tenant.id}/gc"
    while True:
        begun = time.monotonic()
        async with session.post(url, headers=headers) as started:
            assert started.status in (200, 409), await started.text()
        tally.collections += started.status == 200
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - begun)))


async def soak(server: Served, tenant: Tenant, tally: Tally) -> None:
    stop, ways = asyncio.Event(), random.Random(20261124)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(server.url, connector=connector, timeout=timeout) as session:
        clients = [Client(session, tenant, tally, random.Random(ways.random())) for _ in range(PUSHERS)]
        async with asyncio.TaskGroup() as tasks:
            collecting = tasks.create_task(keep_collecting(session, server, tenant, tally))
            pushing = [tasks.create_task(keep_pushing(client, n, stop)) for n, client in enumerate(clients)]
            ended = time.monotonic() + SECONDS
            await until(lambda: tally.refused or (time.monotonic() >= ended and tally.pushes >= PUSHES))
            stop.set()
            await asyncio.gather(*pushing)
            collecting.cancel()


async def until(condition: Callable[[], Any], turn: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    while not condition():
        await turn(0.1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_no_manifest_is_refused_for_a_blob_that_was_promised(tmp_path: Path) -> None:
    tally = Tally()
    flags = ("--lease-seconds", str(LEASE_SECONDS), "--epoch-seconds", "1")
    with serve(tmp_path / "root", *flags) as server:
        await soak(server, server.create_registry("my"), tally)
    longest = max(tally.pauses, default=0)
    print(
        f"{tally.pushes} pushes, the longest pause {longest:.0f} s, {tally.collections} collections, "
        f"{tally.collected} blobs that were gone, {tally.late} pushes too late to count"
    )
    assert tally.refused == []
    assert tally.pushes >= max(PUSHES, 200)
    assert tally.collected > 0, "nothing was ever collected: the promises were not tried"
    assert tally.collections > SECONDS / 4
