"""Backups while clients push, delete and collect: each one restores, every digest matches, and nothing that was
acknowledged before it began, and was left alone until it ended, is missing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from regserver.content.restore import restore
from support.backups import checked, query, reached, silent, tags
from support.registry import Process, clean_environment, served_process

ROUNDS = int(os.environ.get("REGSERVER_BACKUP_ROUNDS", "20"))
PUSHERS, DELETERS = 4, 3
IMAGE = "application/vnd.oci.image.manifest.v1+json"
BASE = "/v2/my/api"
# Layers that come and go: one is condemned by a collection while a backup has still to read it.
POOL = [random.Random(number).randbytes(60_000) for number in range(8)]


@dataclass
class Ledger:
    """tag → manifest digest, for what was acknowledged and which nobody has begun to change since."""

    kept: dict[str, str] = field(default_factory=dict)
    pushes: int = 0
    deletes: int = 0
    collections: int = 0


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes) -> dict[str, Any]:
    return {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}


async def push(session: aiohttp.ClientSession, ledger: Ledger, tag: str, layers: list[bytes]) -> None:
    for content in (b"{}", *layers):
        async with session.head(f"{BASE}/blobs/{digest_of(content)}") as known:
            if known.status == 200:
                continue
        async with session.post(f"{BASE}/blobs/uploads/?digest={digest_of(content)}", data=content) as done:
            assert done.status == 201, await done.text()
    document = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(b"{}")}
    manifest = json.dumps({**document, "layers": [descriptor(layer) for layer in layers]}).encode()
    ledger.kept.pop(tag, None)
    async with session.put(f"{BASE}/manifests/{tag}", data=manifest, headers={"Content-Type": IMAGE}) as put:
        assert put.status == 201, await put.text()
    ledger.kept[tag] = digest_of(manifest)
    ledger.pushes += 1


async def keep_pushing(session: aiohttp.ClientSession, ledger: Ledger, pusher: int) -> None:
    ways = random.Random(pusher)
    while True:
        layers = [ways.randbytes(ways.choice([50, 5_000, 200_000])), ways.choice(POOL)]
        await push(session, ledger, f"p{pusher}-{ways.randrange(3)}", layers)


async def keep_deleting(session: aiohttp.ClientSession, ledger: Ledger, deleter: int) -> None:
    ways = random.Random(1000 + deleter)
    while True:
        await asyncio.sleep(0.01)
        if doomed := [tag for tag in sorted(ledger.kept) if tag.startswith("p")]:
            tag = ways.choice(doomed)
            digest = ledger.kept.pop(tag)
            for other in [name for name, named in ledger.kept.items() if named == digest]:
                ledger.kept.pop(other)
            async with session.delete(f"{BASE}/manifests/{digest}") as done:
                assert done.status in (202, 404), await done.text()
            ledger.deletes += 1


async def keep_collecting(session: aiohttp.ClientSession, ledger: Ledger) -> None:
    while True:
        async with session.get("/v1/registries") as found:
            registries = (await found.json())["data"]
        for registry in registries:
            async with session.post(f"/v1/registries/{registry['id']}/gc") as started:
                assert started.status == 200, await started.text()
                ledger.collections += 1
        await asyncio.sleep(0.02)


@asynccontextmanager
async def under_load(server: Process) -> AsyncIterator[tuple[aiohttp.ClientSession, Ledger]]:
    ledger = Ledger()
    async with aiohttp.ClientSession(str(server.url)) as session:
        tasks = [
            *(asyncio.create_task(keep_pushing(session, ledger, number)) for number in range(PUSHERS)),
            *(asyncio.create_task(keep_deleting(session, ledger, number)) for number in range(DELETERS)),
            asyncio.create_task(keep_collecting(session, ledger)),
        ]
        try:
            yield session, ledger
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def command(*arguments: object) -> None:
    """`regserver …`, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "regserver", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=clean_environment(),
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.timeout(600)
async def test_every_backup_under_load_restores_with_every_digest(tmp_path: Path) -> None:
    root, chain, condemned = tmp_path / "root", [], 0
    with served_process(root, "--dev") as server:
        async with under_load(server) as (session, ledger):
            for number in range(ROUNDS):
                await push(session, ledger, f"round-{number}", [b"round %d" % number])
                before = dict(ledger.kept)
                chain = [*chain, tmp_path / f"{number}.tar.zst"] if number % 3 else [tmp_path / f"{number}.tar.zst"]
                since = ("--since", chain[-2]) if len(chain) > 1 else ()
                await command("backup", chain[-1], "--root", root, *since)
                untouched = {tag: digest for tag, digest in before.items() if ledger.kept.get(tag) == digest}
                await asyncio.to_thread(restore, chain, tmp_path / "back", silent)
                condemned += len(verify(tmp_path / "back", untouched) - files_of(root))
                shutil.rmtree(tmp_path / "back")
            assert min(ledger.pushes, ledger.deletes, ledger.collections) > ROUNDS, ledger
    assert condemned > 0, "something that a backup holds was collected"
    assert query(root, "SELECT * FROM trash_holds") == []


def verify(root: Path, untouched: dict[str, str]) -> set[str]:
    digests, found = checked(root), tags(root)
    assert {tag: found.get(tag) for tag in untouched} == untouched
    for digest in set(found.values()):
        assert reached(root, digest) <= digests
    return digests


def files_of(root: Path) -> set[str]:
    return {f"sha256:{path.name.partition('.')[0]}" for path in (root / "blobs" / "sha256").rglob("*.*")}


@pytest.mark.parametrize("word", ["backup", "restore"])
async def test_a_command_that_is_killed_leaves_no_result_and_the_next_one_works(tmp_path: Path, word: str) -> None:
    root, file, back = tmp_path / "root", tmp_path / "backup.tar", tmp_path / "back"
    with served_process(root, "--dev") as server:
        async with aiohttp.ClientSession(str(server.url)) as session:
            for number in range(4):
                await push(session, Ledger(), f"v{number}", [os.urandom(1_000_000) for _ in range(8)])
        if word == "restore":
            await command("backup", file, "--root", root)
        arguments = ("backup", file, "--root", root) if word == "backup" else ("restore", file, "--root", back)
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "regserver", *map(str, arguments))
        partial = file.with_name("backup.tar.partial") if word == "backup" else tmp_path
        deadline = time.monotonic() + 30
        while process.returncode is None and not begun(word, partial):
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        assert not (file if word == "backup" else back).exists()
        if word == "backup":
            await command("backup", file, "--root", root)
            assert [path.name for path in tmp_path.glob("*backup*")] == [file.name]
    await command("restore", file, "--root", back)
    assert len(checked(back)) == 33


def begun(word: str, place: Path) -> bool:
    """Some bytes are there, and some are still to come."""
    if word == "backup":
        return place.exists() and place.stat().st_size > 2_000_000
    return any(place.glob(".back.restoring-*/blobs/*/*/*"))


async def test_an_interrupted_backup_leaves_nothing_and_holds_nothing(tmp_path: Path) -> None:
    root, file = tmp_path / "root", tmp_path / "backup.tar"
    with served_process(root, "--dev") as server:
        async with aiohttp.ClientSession(str(server.url)) as session:
            for number in range(4):
                await push(session, Ledger(), f"v{number}", [os.urandom(1_000_000) for _ in range(8)])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "regserver", "backup", str(file), "--root", str(root)
        )
        deadline = time.monotonic() + 30
        while process.returncode is None and not begun("backup", file.with_name("backup.tar.partial")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert list(tmp_path.glob("*backup*")) == []
    assert query(root, "SELECT * FROM trash_holds") == []
