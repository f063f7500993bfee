"""What no library would send (protocol.md, "aiohttp traps"): the framing lies, the body stops, the client vanishes."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from regserver.web.context import SERVICES
from regserver.web.health import LIFECYCLE
from support.pushing import Registry, digest_of, make_content, make_image, push_blob, push_image, start_upload
from support.registry import served_app, until
from support.wire import CHUNKED, CLOSE, EXPECT, connected, head, length

UPLOADS = "/v2/a/b/blobs/uploads/"


async def stored(registry: Registry, content: bytes) -> bool:
    return (await registry.send("GET", f"/v2/a/b/blobs/{digest_of(content)}")).status == 200


def statuses(received: bytes) -> list[int]:
    """Of every answer; the parser's own refusals speak HTTP/1.0."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


async def settled(registry: Registry, location: str, value: str) -> None:
    """Waits until the session stands there: the server learns of a cut connection a moment later."""
    while (await registry.send("GET", location)).headers["Range"] != value:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])


async def cut(registry: Registry, method: str, path: str, content: bytes, framing: str) -> None:
    """Sends a body that claims to be longer than `content`, leaves, and waits until the server is done with it."""
    lifecycle = registry.client.app[LIFECYCLE]  # type: ignore[index]
    async with connected(registry) as wire:
        if framing == "length":
            await wire.send(head(method, path, length(len(content) + 1)), content)
        else:
            await wire.send(head(method, path, CHUNKED), f"{len(content):x}\r\n", content, "\r\n")
        await until(lambda: lifecycle.running == 1)
    await until(lambda: lifecycle.running == 0)


@FRAMINGS
async def test_trap_6_a_patch_cut_short_keeps_what_came_and_goes_on_from_there(
    registry: Registry, framing: str
) -> None:
    content = make_content(300_000)
    location = await start_upload(registry, "a/b")
    await cut(registry, "PATCH", location, content[:200_000], framing)
    assert (await registry.send("GET", location)).headers["Range"] == "0-199999"
    answer = await registry.send("PUT", location, query={"digest": digest_of(content)}, data=content[200_000:])
    assert answer.status == 201
    assert await stored(registry, content)


@FRAMINGS
async def test_trap_6_a_put_cut_short_is_never_taken_as_the_end(registry: Registry, framing: str) -> None:
    content = make_content(5000)
    location = await start_upload(registry, "a/b")
    await cut(registry, "PUT", f"{location}?digest={digest_of(content)}", content, framing)
    assert not await stored(registry, content)
    assert (await registry.send("GET", location)).headers["Range"] == "0-4999"


@FRAMINGS
async def test_trap_6_a_single_post_cut_short_leaves_nothing(registry: Registry, framing: str) -> None:
    content = make_content(5000)
    await push_blob(registry, "a/b")
    await cut(registry, "POST", f"{UPLOADS}?digest={digest_of(content)}", content, framing)
    assert not await stored(registry, content)
    core = registry.client.app[SERVICES].core  # type: ignore[index]
    assert await core.db.fetch("SELECT id FROM uploads") == []


@FRAMINGS
async def test_trap_6_a_manifest_cut_short_is_not_stored(registry: Registry, framing: str) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    await cut(registry, "PUT", "/v2/a/b/manifests/v1", content, framing)
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).status == 404


async def test_a_length_that_means_none_to_the_parser_is_no_empty_chunk(registry: Registry) -> None:
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(head("PATCH", location, length(2**64 - 1)))
        assert (await wire.answer()).status == 400


async def test_chunks_that_begin_to_lie_later_store_nothing(root: Path) -> None:
    async with served_app(root, dev=True, body_idle_seconds=0.2) as client:
        registry = Registry(client)
        location = await start_upload(registry, "a/b")
        async with connected(registry) as wire:
            await wire.send(head("PUT", f"{location}?digest={digest_of(b'hello')}", CHUNKED), "5\r\nhello\r\n")
            await settled(registry, location, "0-0")
            await wire.send("lie")
            assert statuses(await wire.rest())[0] in (400, 408)
        assert not await stored(registry, b"hello")


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", CHUNKED),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Content-Length: 5, 5",),
        ("Content-Length: 18446744073709551616",),
        ("Content-Length: 18446744073709551615",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("X: a\x00b",),
        ("X : y",),
        ("X: y\n evil",),
        (" folded",),
        ("Host: other",),
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(registry: Registry, lines: tuple[str, ...]) -> None:
    async with connected(registry) as wire:
        await wire.send(head("POST", f"{UPLOADS}?digest={digest_of(b'hello')}", *lines), "hello")
        assert (await wire.answer()).status == 400
    assert not await stored(registry, b"hello")


async def test_a_transfer_coding_under_the_chunks_is_refused(registry: Registry) -> None:
    async with connected(registry) as wire:
        await wire.send(head("POST", f"{UPLOADS}?digest={digest_of(b'hello')}", "Transfer-Encoding: gzip, chunked"))
        await wire.send("5\r\nhello\r\n0\r\n\r\n")
        assert (await wire.answer()).status == 415
    assert not await stored(registry, b"hello")


@pytest.mark.parametrize("second", ["Basic eDp5", "Bearer x"])
async def test_trap_5_two_authorization_headers_are_refused(guarded: Registry, second: str) -> None:
    async with connected(guarded) as wire:
        await wire.send(head("GET", "/v2/", f"Authorization: {guarded.credentials}", f"Authorization: {second}"))
        assert (await wire.answer()).status == 400


async def test_requests_sent_at_once_are_answered_in_turn(registry: Registry) -> None:
    content = make_content(200_000)
    digest = await push_blob(registry, "a/b", content)
    location = await start_upload(registry, "a/b")
    async with connected(registry) as wire:
        await wire.send(
            head("PATCH", location, length(3)),
            "abc",
            head("GET", f"/v2/a/b/blobs/{digest}"),
            head("HEAD", f"/v2/a/b/blobs/{digest}"),
            head("GET", "/v2/nothing/here/manifests/x"),
            head("GET", "/v2/"),
        )
        assert (await wire.answer()).headers["range"] == "0-2"
        assert (await wire.answer()).body == content
        assert (await wire.answer("HEAD")).headers["content-length"] == str(len(content))
        assert (await wire.answer()).status == 404
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("size", [100, 200_000])
async def test_head_sends_no_byte_of_a_body(registry: Registry, size: int) -> None:
    digest = await push_blob(registry, "a/b", make_content(size))
    async with connected(registry) as wire:
        await wire.send(head("HEAD", f"/v2/a/b/blobs/{digest}", CLOSE))
        assert (await wire.rest()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("size", [100, 200_000])
async def test_http_1_0_is_answered_without_chunks(registry: Registry, size: int) -> None:
    content = make_content(size)
    digest = await push_blob(registry, "a/b", content)
    async with connected(registry) as wire:
        await wire.send(head("GET", f"/v2/a/b/blobs/{digest}", version="1.0"))
        received = await wire.rest()
    assert received.endswith(b"\r\n\r\n" + content)
    assert b"chunked" not in received


async def test_trap_4_a_percent_encoded_slash_is_a_slash_to_the_one_who_judges(registry: Registry) -> None:
    image = await push_image(registry, "a/b", "v1")
    async with connected(registry) as wire:
        await wire.send(head("GET", "/v2/a%2Fb/manifests/v1"))
        assert (await wire.answer()).body == image.content


@pytest.mark.parametrize(
    "path",
    [
        "/v2/a%2F..%2Fb/manifests/v1",
        "/v2/..%2F..%2Fetc%2Fpasswd/manifests/v1",
        "/v2/../../etc/passwd",
        "/v2/a/../b/manifests/v1",
        "/v2/a%00b/manifests/v1",
        "/v2/a%0Ab/manifests/v1",
        "/v2/a%0D%0AX-Evil:%201/manifests/v1",
        "/v2/%61%252F/manifests/v1",
        "/v2//manifests/v1",
        "/v2/a//b/manifests/v1",
        "/v2/A/manifests/v1",
        "/v2/a/manifests/",
        "/v2/a/manifests/v1/",
        "/v2/a/manifests/v1%00",
        "/v2/a/manifests/..%2f..%2f..%2fetc%2fpasswd",
        "/v2/a/blobs/sha256:..%2F..%2F..%2Fetc%2Fpasswd",
        "/v2/a/blobs/sha256:" + "0" * 63 + "%00",
        "/v2/a/blobs/sha256:" + "0" * 64 + "%0A",
        "/v2/a/blobs/uploads/..%2F..%2Fadmin-token",
        "/v2/a/referrers/..%2F",
        "/v2/" + "a/" * 2000 + "manifests/v1",
        "/v2/" + "a" * 256 + "/manifests/v1",
        "/v2/%FF%FE/manifests/v1",
        "/v2/%ED%A0%80/manifests/v1",
        "/v2/a/manifests/%F0%9F%90%B3",
        "/v2/a/tags/list%00",
        "/v2/_catalog/x",
        "/v2",
        "/v2/x",
        "/",
        "//v2/",
        "/v2/;/manifests/v1",
        "http://other.example/v2/a/../manifests/v1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_trap_4_a_path_that_is_none_is_refused_as_a_client_error(
    registry: Registry, method: str, path: str
) -> None:
    async with connected(registry) as wire:
        await wire.send(head(method, path, length(2), CLOSE), "{}")
        answer = await wire.answer()
    assert 400 <= answer.status < 500
    assert b"passwd:" not in answer.body
    if path.startswith("/v2/") and method == "GET":
        assert answer.json["errors"][0]["code"] in (
            "NAME_INVALID",
            "NAME_UNKNOWN",
            "MANIFEST_UNKNOWN",
            "DIGEST_INVALID",
            "BLOB_UPLOAD_UNKNOWN",
        )


@pytest.mark.parametrize("size", [20_000, 32_000])
async def test_trap_2_a_long_header_passes(registry: Registry, size: int) -> None:
    async with connected(registry) as wire:
        await wire.send(head("GET", "/v2/", f"Authorization: Bearer {'x' * size}"))
        assert (await wire.answer()).status == 200


async def test_trap_2_a_header_without_end_is_refused(registry: Registry) -> None:
    async with connected(registry) as wire:
        await wire.send(head("GET", "/v2/", f"Authorization: Bearer {'x' * 40_000}"))
        assert statuses(await wire.rest()) == [400]


async def test_expect_is_answered_100_after_access_was_granted(guarded: Registry) -> None:
    await guarded.make_robot("a")
    content = make_content()
    lines = (f"Authorization: {guarded.credentials}", EXPECT, length(content))
    async with connected(guarded) as wire:
        await wire.send(head("POST", f"{UPLOADS}?digest={digest_of(content)}", *lines))
        assert (await wire.answer()).status == 100
        await wire.send(content)
        assert (await wire.answer()).status == 201
        await wire.send(head("GET", "/v2/", f"Authorization: {guarded.credentials}"))
        assert (await wire.answer()).status == 200


async def test_what_is_refused_after_100_is_answered_all_the_same(registry: Registry) -> None:
    async with connected(registry) as wire:
        await wire.send(head("POST", f"{UPLOADS}?digest={digest_of(b'other')}", EXPECT, length(5)))
        assert (await wire.answer()).status == 100
        await wire.send("hello")
        assert (await wire.answer()).json["errors"][0]["code"] == "DIGEST_INVALID"


async def test_expect_is_refused_without_100_and_the_connection_ends(guarded: Registry) -> None:
    await guarded.make_robot("a")
    async with connected(guarded) as wire:
        await wire.send(head("POST", f"{UPLOADS}?digest={digest_of(b'hello')}", EXPECT, length(5)))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await wire.rest() == b""


@pytest.mark.parametrize("size", [1000, 900_000])
async def test_a_small_body_nobody_wants_leaves_the_connection_usable(guarded: Registry, size: int) -> None:
    async with connected(guarded) as wire:
        for _ in range(3):
            await wire.send(head("PUT", "/v2/a/b/manifests/v1", length(size)), b"x" * size)
            assert (await wire.answer()).status == 401


async def test_a_small_body_that_comes_after_the_refusal_leaves_the_connection_usable(guarded: Registry) -> None:
    async with connected(guarded) as wire:
        await wire.send(head("PUT", "/v2/a/b/manifests/v1", length(1000)))
        assert (await wire.answer()).status == 401
        await wire.send(b"x" * 1000, head("GET", "/v2/"))
        assert (await wire.answer()).status == 401


@FRAMINGS
async def test_a_refused_body_is_not_read_to_its_end_and_its_sender_sees_why(guarded: Registry, framing: str) -> None:
    async with connected(guarded) as wire:
        await wire.send(head("PUT", f"{UPLOADS}{'0' * 32}", length(2**40) if framing == "length" else CHUNKED))
        sending = asyncio.create_task(send_for_ever(wire.writer, framing))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await wire.rest() == b""
        assert await sending < 64 * 2**20


async def send_for_ever(writer: asyncio.StreamWriter, framing: str) -> int:
    sent, piece = 0, b"x" * 2**16
    frame = f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if framing == "chunked" else piece
    try:
        while True:
            writer.write(frame)
            await asyncio.wait_for(writer.drain(), 20)
            sent += len(piece)
    except ConnectionError:
        return sent


@FRAMINGS
async def test_a_manifest_over_the_limit_is_refused_before_it_is_whole(root: Path, framing: str) -> None:
    async with served_app(root, dev=True, max_manifest_bytes=1000) as client:
        registry = Registry(client)
        async with connected(registry) as wire:
            await wire.send(head("PUT", "/v2/a/b/manifests/v1", length(1001) if framing == "length" else CHUNKED))
            if framing == "chunked":
                await wire.send("200000\r\n", b"x" * 0x200000, "\r\n")
            answer = await wire.answer()
            assert (answer.status, answer.json["errors"][0]["code"]) == (413, "MANIFEST_INVALID")
        assert (await registry.send("GET", "/v2/a/b/manifests/v1")).status == 404
