"""The process is killed while clients push, delete and collect. What was acknowledged is there after the restart.

A push is acknowledged when its manifest's 201 has been read whole; from when a delete is sent until it is answered
nothing is claimed about its tag.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.registry import served_process

ROUNDS = int(os.environ.get("REGSERVER_KILL_ROUNDS", "12"))
PUSHERS, DELETERS = 6, 3
# Layers that come and go: a push finds one that another is about to lose, or that another is about to have pushed.
POOL = [random.Random(number).randbytes(40_000) for number in range(6)]
OCTETS = {"Content-Type": "application/octet-stream"}
IMAGE = "application/vnd.oci.image.manifest.v1+json"
BASE = "/v2/my/api"
GONE = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


@dataclass
class Ledger:
    """tag → (manifest, its layers): what the server has said 201 to, and has not been asked to delete since."""

    acknowledged: dict[str, tuple[bytes, list[bytes]]] = field(default_factory=dict)
    pushes: int = 0


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes) -> dict[str, Any]:
    return {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}


async def push_blob(session: aiohttp.ClientSession, content: bytes, ways: random.Random) -> None:
    """By one of the ways that clients have; asks first, as they do."""
    digest = digest_of(content)
    async with session.head(f"{BASE}/blobs/{digest}") as known:
        if known.status == 200:
            return
    if ways.random() < 0.5:
        async with session.post(f"{BASE}/blobs/uploads/?digest={digest}", data=content, headers=OCTETS) as done:
            assert done.status == 201, await done.text()
        return
    async with session.post(f"{BASE}/blobs/uploads/") as started:
        assert started.status == 202, await started.text()
        location = started.headers["Location"]
    async with session.patch(location, data=content, headers=OCTETS) as sent:
        assert sent.status == 202, await sent.text()
    async with session.put(f"{location}?digest={digest}") as done:
        assert done.status == 201, await done.text()


async def push(session: aiohttp.ClientSession, ledger: Ledger, name: str, ways: random.Random) -> None:
    layers = [ways.randbytes(ways.choice([20, 5_000, 300_000])), ways.choice(POOL)]
    for content in (b"{}", *layers):
        await push_blob(session, content, ways)
    document = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(b"{}")}
    manifest = json.dumps({**document, "layers": [descriptor(layer) for layer in layers]}).encode()
    ledger.acknowledged.pop(name, None)
    async with session.put(f"{BASE}/manifests/{name}", data=manifest, headers={"Content-Type": IMAGE}) as put:
        assert put.status == 201, await put.text()
    ledger.acknowledged[name] = (manifest, layers)
    ledger.pushes += 1


async def keep_pushing(session: aiohttp.ClientSession, ledger: Ledger, pusher: int, ways: random.Random) -> None:
    count = 0
    while True:
        await push(session, ledger, f"p{pusher}-{count % 2}", ways)
        count += 1


async def keep_deleting(session: aiohttp.ClientSession, ledger: Ledger, ways: random.Random) -> None:
    while True:
        await asyncio.sleep(0.005)
        if not ledger.acknowledged:
            continue
        name = ways.choice(sorted(ledger.acknowledged))
        ledger.acknowledged.pop(name)
        async with session.delete(f"{BASE}/manifests/{name}") as done:
            assert done.status in (202, 404), await done.text()


async def keep_collecting(session: aiohttp.ClientSession) -> None:
    while True:
        async with session.get("/v1/registries") as found:
            registries = (await found.json())["data"]
        for registry in registries:
            async with session.post(f"/v1/registries/{registry['id']}/gc") as started:
                assert started.status == 200, await started.text()
        await asyncio.sleep(0.01)


async def work_until_killed(url: str, ledger: Ledger, ways: random.Random, kill: Any) -> None:
    """Any answer but the expected fails the round; the connections that break with the process do not."""
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        tasks = [
            asyncio.create_task(step)
            for step in (
                *(keep_pushing(session, ledger, pusher, random.Random(ways.random())) for pusher in range(PUSHERS)),
                *(keep_deleting(session, ledger, random.Random(ways.random())) for _ in range(DELETERS)),
                keep_collecting(session),
            )
        ]
        await asyncio.sleep(ways.uniform(0.1, 0.9))
        kill()
        ended, idle = await asyncio.wait(tasks, timeout=0.5)
        for task in idle:  # it had nothing to ask for when the server went
            task.cancel()
        for task in ended:
            failure = task.exception()
            if failure is not None and not isinstance(failure, GONE):
                raise failure


async def check(url: str, ledger: Ledger) -> None:
    """Every acknowledged push pulls bit-exact."""
    async with aiohttp.ClientSession(url) as session:
        for name, (manifest, layers) in ledger.acknowledged.items():
            async with session.get(f"{BASE}/manifests/{name}") as pulled:
                assert (pulled.status, await pulled.read()) == (200, manifest), name
            for layer in layers:
                async with session.get(f"{BASE}/blobs/{digest_of(layer)}") as pulled:
                    assert (pulled.status, await pulled.read()) == (200, layer), name


async def ready(url: str) -> None:
    async with aiohttp.ClientSession(url) as session, asyncio.timeout(10):
        while True:
            with contextlib.suppress(*GONE):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.01)


@pytest.mark.timeout(1200)
async def test_what_was_acknowledged_survives_kill_after_kill(tmp_path: Path) -> None:
    ledger, ways, starts = Ledger(), random.Random(20261124), []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        with served_process(tmp_path / "root", "--dev") as server:
            await ready(server.url)
            starts.append(time.monotonic() - begun)
            await check(server.url, ledger)
            await work_until_killed(server.url, ledger, ways, server.process.kill)
    with served_process(tmp_path / "root", "--dev") as server:
        await ready(server.url)
        await check(server.url, ledger)
        await nothing_is_left(server.url, ledger, tmp_path / "root")
    assert ledger.pushes > ROUNDS, "there was something to lose"


async def nothing_is_left(url: str, ledger: Ledger, root: Path) -> None:
    """I5: with every tag deleted, one collection leaves only what pushes that were cut short still hold."""
    async with aiohttp.ClientSession(url) as session:
        async with session.get(f"{BASE}/tags/list") as listed:
            names = (await listed.json())["tags"]
        assert set(ledger.acknowledged) <= set(names)
        for name in names:
            async with session.delete(f"{BASE}/manifests/{name}") as done:
                assert done.status == 202
        async with session.get("/v1/registries") as found:
            identity = (await found.json())["data"][0]["id"]
        async with session.post(f"/v1/registries/{identity}/gc") as started:
            job = (await started.json())["data"]["job_id"]
        async with asyncio.timeout(30):
            while True:
                async with session.get(f"/v1/registries/{identity}/gc/{job}") as shown:
                    report = (await shown.json())["data"]
                if report["status"] != "running":
                    break
                await asyncio.sleep(0.05)
    named = keys(root, "SELECT key FROM blobs UNION SELECT key FROM uploads UNION SELECT key FROM trash")
    files = {file.name for folder in ("blobs", "uploads") for file in (root / folder).rglob("*") if file.is_file()}
    assert {name.rpartition(".")[2] for name in files} <= named, "I5: a file that nothing names"
    rows = keys(root, "SELECT key FROM blobs")
    assert rows <= {name.rpartition(".")[2] for name in files}, "I1: a blob without its file"
    loose = """SELECT key FROM blobs WHERE digest NOT IN (SELECT digest FROM repository_blobs)
               AND digest NOT IN (SELECT digest FROM blob_leases)"""
    assert keys(root, loose) == set(), "I5: a blob that nothing holds"


def keys(root: Path, sql: str) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"file:{root / 'catalog.sqlite3'}?mode=ro", uri=True)) as catalog:
        return {row[0] for row in catalog.execute(sql)}
