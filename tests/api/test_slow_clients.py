"""Clients that fall silent, trickle, read nothing, or vanish: each costs little, and not for long (trap 3)."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from support.pushing import Registry, digest_of, make_content, push_blob, push_image, start_upload
from support.registry import served_app, until
from support.wire import connected, head, length


@pytest.mark.parametrize("sent", [0, 2000])
async def test_a_body_that_falls_silent_is_cut_and_its_session_goes_on(root: Path, sent: int) -> None:
    content = make_content(5000)
    async with served_app(root, dev=True, body_idle_seconds=0.2) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(head("PATCH", location, length(content)), content[:sent])
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert await wire.rest() == b""
        answer = await registry.send("PUT", location, query={"digest": digest_of(content)}, data=content[sent:])
        assert answer.status == 201


async def test_a_body_that_only_trickles_is_cut(root: Path) -> None:
    async with served_app(root, dev=True, body_idle_seconds=0.3) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(head("PATCH", location, length(10**6)))
            trickling = asyncio.create_task(trickle(wire.writer))
            assert (await wire.answer()).status == 408
            trickling.cancel()


async def trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.02)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until_files(count: int) -> None:
    while open_files() > count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_client_that_vanishes_in_a_pull_leaves_no_file_open(registry: Registry) -> None:
    digest = await push_blob(registry, "a/b", make_content(40_000_000))
    before = open_files()
    for _ in range(5):
        async with connected(registry) as wire:
            await wire.send(head("GET", f"/v2/a/b/blobs/{digest}"))
            await wire.reader.readexactly(100_000)
            wire.writer.transport.abort()
    await asyncio.wait_for(until_files(before), 20)


async def test_a_client_that_never_reads_an_answer_is_dropped(root: Path) -> None:
    notes = {f"note{number}": "x" * 10_000 for number in range(700)}
    async with served_app(root, dev=True, body_idle_seconds=1) as client:
        registry = Registry(client)
        await push_image(registry, "a/b", "big", annotations=notes)
        before = connections(registry)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", client.port or 0))
            deaf.sendall(head("GET", "/v2/a/b/manifests/big").encode() * 4)
            await until(lambda: connections(registry) - before != set())
            (held,) = connections(registry) - before
            await asyncio.wait_for(until(lambda: held not in connections(registry)), 20)


def connections(registry: Registry) -> set[object]:
    return set(registry.client.server.runner.server.connections)  # type: ignore[union-attr]


async def test_a_client_that_stops_reading_is_dropped_and_pins_no_thread(root: Path) -> None:
    content = make_content(40_000_000)
    async with served_app(root, dev=True, body_idle_seconds=0.5) as client:
        registry = Registry(client)
        digest = await push_blob(registry, "a/b", content)
        before = open_files()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(12):  # more than there are threads to send with
                wire = await stack.enter_async_context(connected(registry))
                await wire.send(head("GET", f"/v2/a/b/blobs/{digest}"))
            answer = await registry.send("GET", f"/v2/a/b/blobs/{digest}")
            assert answer.body == content
            await asyncio.wait_for(until_files(before + 13), 20)  # their own ends stay open, and the last client's
