"""Requests as bytes, sound and broken, and thousands of small changes of them: every answer is HTTP and below 500.

What was read of a connection is parsed as strictly as a proxy would: an answer that does not end where it says, or one
too many, would be given to another client there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pushing import digest_of
from support.registry import Process, events, served_process

ROUNDS = int(os.environ.get("RAW_ROUNDS", "5000"))
AT_ONCE = 64
SILENCE_SECONDS = 0.5
LAST = b"GET /healthz HTTP/1.1\r\n" + b"Host: localhost\r\nConnection: close\r\n\r\n"
BLOB = digest_of(b"x")
HOST = b"Host: localhost\r\n"
CORPUS = (
    b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\n",
    b"GET /v2/a/b/manifests/v1 HTTP/1.1\r\n" + HOST + b"Accept: */*\r\n\r\n",
    b"GET /v2/a/b/tags/list?n=1&last=v0 HTTP/1.1\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
    b"GET /v2/a/b/blobs/" + BLOB.encode() + b" HTTP/1.1\r\n" + HOST + b"Range: bytes=0-0,2-3\r\n\r\n",
    b"POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    b"POST /v2/a/b/blobs/uploads/?digest=" + BLOB.encode() + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx",
    b"PUT /v2/a/b/manifests/v1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"PUT /v2/a/b/manifests/v1 HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"PATCH /v2/a/b/blobs/uploads/up_0 HTTP/1.1\r\n" + HOST + b"Content-Range: 0-3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /v1/registries HTTP/1.1\r\n"
    + HOST
    + b'Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{"name":"a"}',
    b"DELETE /v2/a/b/manifests/v1 HTTP/1.1\r\n" + HOST + b"If-Match: *\r\n\r\n",
    b"GET /token?service=x&scope=repository:a/b:pull HTTP/1.1\r\n" + HOST + b"Authorization: Basic YTpi\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://elsewhere/v2/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /v2/ HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
)
TOKENS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%00", b"%2F", b"..", b"\xff", b"\x80", b"0", b"-1", b"1" * 30),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b" folded\r\n",
    ),
    *(b"Content-Encoding: gzip\r\n", b"HTTP/9.9", b"HTTP/1.1", b"FFFFFFFFFFFFFFFF\r\n", b";ext=1\r\n", b"A" * 40_000),
)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n")


def changed(content: bytes, ways: random.Random) -> bytes:
    """One to four small changes."""
    for _ in range(ways.randint(1, 4)):
        at, end = sorted((ways.randint(0, len(content)), ways.randint(0, len(content))))
        match ways.randrange(6):
            case 0:
                content = content[:at] + ways.choice(TOKENS) + content[at:]
            case 1:
                content = content[:at] + content[end:]
            case 2:
                content = content[:end] + content[at:end] + content[end:]
            case 3 if content:
                place = ways.randrange(len(content))
                content = content[:place] + bytes([content[place] ^ 1 << ways.randrange(8)]) + content[place + 1 :]
            case 4:
                content = content[:at] + ways.choice(CORPUS)[ways.randrange(40) :]
            case _:
                content = content.replace(b"\r\n", ways.choice([b"\n", b"\r", b"\r\n\r\n"]), 1)
    return content


async def exchange(process: Process, sent: bytes) -> bytes:
    """All that is answered until the server closes or has nothing more to say."""
    reader, writer = await asyncio.open_connection(*process.address, limit=2**20)
    received = b""
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            while piece := await asyncio.wait_for(reader.read(2**16), SILENCE_SECONDS):
                received += piece
    writer.transport.abort()
    return received


def statuses(received: bytes) -> list[int]:
    """Of every answer. Raises AssertionError where one is not whole, or where bytes stand between two."""
    found = []
    while received:
        start = STATUS.match(received)
        assert start is not None, received[:200]
        found.append(int(start.group(1)))
        head, separator, received = received.partition(b"\r\n\r\n")
        assert separator, head[:200]
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = 0 if found[-1] in (100, 204, 304) else int(fields[b"Content-Length"])
        assert len(received) >= size, (head, received[:200])
        received = received[size:]
    return found


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with served_process(tmp_path / "root", "--dev", "--body-idle-seconds", "2") as process:
        yield process


@pytest.mark.slow
async def test_no_bytes_make_the_server_fail_or_answer_out_of_turn(process: Process, tmp_path: Path) -> None:
    ways = random.Random(20261124)
    requests = [*CORPUS, *(changed(ways.choice(CORPUS), ways) for _ in range(ROUNDS))]
    room, seen = asyncio.Semaphore(AT_ONCE), set()

    async def send(sent: bytes) -> None:
        async with room:
            found = statuses(await exchange(process, sent + LAST))
        assert all(status < 500 for status in found), (sent[:500], found)
        assert len(found) <= sent.count(b"HTTP/") + sent.count(b"\n\n") + sent.count(b"\r\n\r\n") + 2, (
            sent[:500],
            found,
        )
        seen.update(found)

    await asyncio.gather(*(send(sent) for sent in requests))
    assert {200, 202, 400, 404} <= seen
    assert statuses(await exchange(process, CORPUS[0] + LAST)) == [200, 200]
    log = tmp_path / "root.log"
    assert [event for event in events(log) if event["level"] not in ("info", "warning")] == []
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
async def test_a_version_that_is_not_spoken_here_is_answered_in_one_that_is(process: Process, version: bytes) -> None:
    received = await exchange(process, CORPUS[0].replace(b"1.1", version))
    assert received.startswith(b"HTTP/1.0 ")
