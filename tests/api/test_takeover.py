"""Large bodies go from the socket into the file (web.takeover). Whatever the client does, not one byte more than the
body is taken, and what follows it is the next request."""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.storage.blobs.disk import Disk
from regserver.storage.blobs.port import Waiting
from regserver.storage.blobs.splicing import Pipe
from regserver.storage.blobs.staging import FilesystemStaged
from regserver.web import takeover
from regserver.web.health import LIFECYCLE
from support.pushing import Registry, digest_of, make_content, start_upload
from support.registry import ADMIN, served_app, until
from support.wire import CHUNKED, CLOSE, EXPECT, Wire, connected, head, length

SIZE = 5_000_000
ASKED = head("GET", "/v2/")
UPLOADS = "/v2/a/b/blobs/uploads/"


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Waiting]]:
    """What was taken from sockets. Without any, a test here would say nothing."""
    batches: list[Waiting] = []
    receive = FilesystemStaged.receive

    async def noting(staged: FilesystemStaged, waiting: Waiting) -> None:
        batches.append(waiting)
        await receive(staged, waiting)

    monkeypatch.setattr(FilesystemStaged, "receive", noting)
    yield batches
    assert sum(batch.taken for batch in batches) > 0


def sent(content: bytes, method: str = "PUT", location: str = "") -> str:
    query = f"?digest={digest_of(content)}" if method != "PATCH" else ""
    return head(method, f"{location}{query}", length(content))


async def pulled(registry: Registry, content: bytes) -> bool:
    answer = await registry.send("GET", f"/v2/a/b/blobs/{digest_of(content)}")
    return answer.body == content if answer.status == 200 else False


async def arrived(registry: Registry, location: str, at_least: int) -> int:
    while (size := offset_of((await registry.send("GET", location)).headers["Range"])) < at_least:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return size


def offset_of(header: str) -> int:
    return int(header.partition("-")[2]) + 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_blob_and_the_request_behind_it_arrive_in_one_stream(registry: Registry, method: str) -> None:
    content = make_content(SIZE)
    location = UPLOADS if method == "POST" else await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(sent(content, method, location), content, ASKED, ASKED)
        assert [(await wire.answer()).status for _ in range(3)] == [201, 200, 200]
        await wire.send(ASKED)
        assert (await wire.answer()).status == 200
    assert await pulled(registry, content)


async def test_chunks_follow_each_other_on_one_connection_and_end_with_a_small_one(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        for part in (content[:2_000_000], content[2_000_000:4_500_000], content[4_500_000:]):
            await wire.send(sent(part, "PATCH", location), part)
            assert (await wire.answer()).status == 202
        await wire.send(head("PUT", f"{location}?digest={digest_of(content)}", length(0)))
        assert (await wire.answer()).status == 201
    assert await pulled(registry, content)


async def test_a_body_that_is_made_of_requests_is_answered_once(registry: Registry) -> None:
    content = (ASKED * (SIZE // len(ASKED))).encode()
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(sent(content, "PUT", location), content, head("GET", "/v2/", "Connection: close"))
        assert [(await wire.answer()).status for _ in range(2)] == [201, 200]
        assert await wire.rest() == b""
    assert await pulled(registry, content)


async def test_the_request_behind_a_body_may_come_in_pieces(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(sent(content, "PUT", location), content[:-1])
        await arrived(registry, location, SIZE - 1)
        await wire.send(content[-1:], ASKED[:7])
        assert (await wire.answer()).status == 201
        await wire.send(ASKED[7:])
        assert (await wire.answer()).status == 200


async def test_the_wrong_digest_ends_the_session_and_not_the_connection(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(head("PUT", f"{location}?digest={digest_of(b'other')}", length(content)), content, ASKED)
        answers = [await wire.answer() for _ in range(2)]
    assert [answer.status for answer in answers] == [400, 200]
    assert (await registry.send("GET", location)).status == 404


async def test_who_waits_for_100_gets_it_before_the_body_is_taken(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(head("PUT", f"{location}?digest={digest_of(content)}", length(content), EXPECT))
        assert (await wire.answer()).status == 100
        await wire.send(content, ASKED)
        assert [(await wire.answer()).status for _ in range(2)] == [201, 200]


async def test_what_came_before_the_client_left_is_kept_and_gone_on_with(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    lifecycle = registry.client.app[LIFECYCLE]  # type: ignore[index]
    async with connected(registry) as wire:
        await wire.send(sent(content, "PATCH", location), content[:3_000_001])
        await until(lambda: lifecycle.running == 1)
    await until(lambda: lifecycle.running == 0)
    assert (await registry.send("GET", location)).headers["Range"] == "0-3000000"
    answer = await registry.send("PUT", location, query={"digest": digest_of(content)}, data=content[3_000_001:])
    assert answer.status == 201
    assert await pulled(registry, content)


async def test_a_half_closed_connection_is_told_that_its_body_is_short(registry: Registry) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(sent(content, "PATCH", location), content[:3_000_000])
        await arrived(registry, location, 2_000_000)
        wire.writer.write_eof()
        assert (await wire.rest())[:12] in (b"", b"HTTP/1.1 400")
    assert (await registry.send("GET", location)).headers["Range"] == "0-2999999"


async def test_a_sender_that_falls_silent_is_told_so_after_what_came_was_kept(root: Path) -> None:
    content = make_content(SIZE)
    async with served_app(root, dev=True, body_idle_seconds=0.3) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(sent(content, "PATCH", location), content[:2_000_003])
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert (await registry.send("GET", location)).headers["Range"] == "0-2000002"


async def test_a_sender_that_trickles_is_cut(root: Path) -> None:
    async with served_app(root, dev=True, body_idle_seconds=0.3) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(head("PATCH", location, length(SIZE)), bytes(10))
            trickling = asyncio.create_task(trickle(wire))
            assert (await wire.answer()).status == 408
            trickling.cancel()


async def trickle(wire: Wire) -> None:
    while True:
        wire.writer.write(b"x")
        await asyncio.sleep(0.02)


async def test_many_slow_senders_hold_no_thread(registry: Registry) -> None:
    content = make_content(SIZE)
    wires = [await stack_of(registry) for _ in range(20)]
    try:
        for wire in wires:
            location = await start_upload(registry, "a/b")
            await wire.send(sent(content, "PATCH", location), content[:1_500_000])
            await arrived(registry, location, 1_000_000)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as quick:
            await quick.send(sent(content, "PUT", location), content)
            assert (await quick.answer()).status == 201
    finally:
        for wire in wires:
            wire.writer.close()


async def stack_of(registry: Registry) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", registry.client.port))


@pytest.mark.parametrize(("rest", "connection"), [(400_000, "keep-alive"), (3_000_000, "close")])
async def test_a_quota_passed_on_the_way_ends_the_body_and_what_is_left_of_it_is_no_request(
    root: Path, monkeypatch: pytest.MonkeyPatch, rest: int, connection: str
) -> None:
    monkeypatch.setattr(takeover, "TURN", 200_000)
    quota = 2_500_000
    content = make_content(quota) + (ASKED * (rest // len(ASKED))).encode()
    async with served_app(root) as client:
        registry = Registry(client, ADMIN)
        await registry.make_robot("a", quota_bytes=quota)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            credentials = f"Authorization: {ADMIN}"
            wire.writer.write(head("PATCH", location, length(content), credentials).encode() + content)
            answer = await wire.answer()
            assert (answer.status, answer.json["errors"][0]["code"]) == (403, "DENIED")
            assert answer.headers.get("connection", "keep-alive") == connection
            if connection == "keep-alive":
                await wire.send(head("GET", "/v2/", credentials, CLOSE))
                assert (await wire.answer()).status == 200
            assert await wire.rest() == b""


async def test_a_full_disk_refuses_the_body_and_keeps_what_it_took(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(SIZE)
    location = await start_upload(registry, "a/b")
    drained = 0

    def drain(disk: Disk, pipe: Pipe, fd: int, count: int) -> int:
        nonlocal drained
        if drained > 1_000_000:
            raise OSError(errno.ENOSPC, "no space")
        drained += (done := pipe.drain(fd, count))
        return done

    monkeypatch.setattr(Disk, "drain", drain)
    async with connected(registry) as wire:
        wire.writer.write((sent(content, "PATCH", location)).encode() + content)
        assert (await wire.answer()).status == 503
    monkeypatch.undo()
    size = offset_of((await registry.send("GET", location)).headers["Range"])
    assert drained <= size < SIZE
    answer = await registry.send("PUT", location, query={"digest": digest_of(content)}, data=content[size:])
    assert answer.status == 201
    assert await pulled(registry, content)


def chunked(content: bytes, size: int = 32_768, extension: str = "") -> bytes:
    """Without the last chunk."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return b"".join(f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n" for piece in pieces)


LAST_CHUNK = b"0\r\n\r\n"


@pytest.mark.parametrize("size", [10_000, 32_768, 100_000])
async def test_a_chunked_body_and_the_requests_behind_it_arrive_in_one_stream(registry: Registry, size: int) -> None:
    content = (ASKED * (2 * SIZE // len(ASKED))).encode()
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(head("PATCH", location, CHUNKED), chunked(content, size), LAST_CHUNK, ASKED, ASKED)
        assert [(await wire.answer()).status for _ in range(3)] == [202, 200, 200]
        await wire.send(head("PUT", f"{location}?digest={digest_of(content)}", length(0), CLOSE))
        assert (await wire.answer()).status == 201
        assert await wire.rest() == b""
    assert await pulled(registry, content)


async def test_extensions_and_trailers_are_no_part_of_a_body(registry: Registry) -> None:
    content = make_content(2 * SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        early, late = chunked(content[:SIZE]), chunked(content[SIZE:], extension=";a=b")
        await wire.send(head("PUT", f"{location}?digest={digest_of(content)}", CHUNKED), early, late)
        await wire.send("0;last\r\nX-Checksum: 1\r\n", "\r\n", ASKED)
        assert [(await wire.answer()).status for _ in range(2)] == [201, 200]
    assert await pulled(registry, content)


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n8000", b"\r\nzz\r\n", b"\r\n5;a\nb\r\n"])
async def test_a_chunked_body_that_ends_early_or_lies_is_never_taken_as_the_end(registry: Registry, end: bytes) -> None:
    content = make_content(2 * SIZE)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(head("PUT", f"{location}?digest={digest_of(content)}", CHUNKED), chunked(content)[:-2], end)
        wire.writer.write_eof()
        assert (await wire.rest())[:12] in (b"", b"HTTP/1.1 400")
    assert not await pulled(registry, content)
    await arrived(registry, location, len(content))
    assert (await registry.send("PUT", location, query={"digest": digest_of(content)})).status == 201


async def test_a_chunked_body_that_falls_silent_is_told_so_after_what_came_was_kept(root: Path) -> None:
    content = make_content(2 * SIZE)
    async with served_app(root, dev=True, body_idle_seconds=0.3) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(head("PATCH", location, CHUNKED), chunked(content))
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert (await registry.send("GET", location)).headers["Range"] == f"0-{len(content) - 1}"


async def test_a_chunked_body_that_passes_the_limit_is_refused_and_what_is_left_of_it_is_no_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "TURN_OF_CHUNKS", 100_000)
    content = make_content(SIZE) + (ASKED * (300_000 // len(ASKED))).encode()
    async with served_app(root, dev=True, max_upload_bytes=SIZE) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            wire.writer.write(head("PATCH", location, CHUNKED).encode() + chunked(content) + LAST_CHUNK)
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert await wire.rest() == b""
