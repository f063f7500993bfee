"""Kept answers on the wire: only between two requests, in their order, and with everything else untouched."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.logs import JsonFormatter, TextFormatter
from regserver.web import connection, kept
from regserver.web.health import LIFECYCLE
from support.managing import make_registry
from support.pushing import Pushed, Registry, draw_token, push_image, start_upload
from support.quick import Line, Quick, asking, quick
from support.registry import ADMIN, make_settings, served_app
from support.wire import CLOSE, EXPECT, head, length

IMAGE = "my/api"
TAG = f"/v2/{IMAGE}/manifests/v1"


@pytest.fixture
async def server(guarded: Registry) -> AsyncIterator[Quick]:
    await make_registry(guarded, "my")
    async with quick(guarded) as found:
        yield found


@pytest.fixture
async def line(server: Quick) -> AsyncIterator[Line]:
    async with server.line() as found:
        yield found


@pytest.fixture
async def image(guarded: Registry, server: Quick) -> Pushed:
    return await push_image(guarded, IMAGE, "v1")


@pytest.fixture
async def known(guarded: Registry, line: Line, image: Pushed) -> str:
    """A head whose answer is kept."""
    token = await draw_token(guarded, f"repository:{IMAGE}:pull")
    await line.warm("GET", TAG, token)
    return asking("GET", TAG, token)


async def test_two_known_heads_in_one_piece_get_two_answers(line: Line, known: str, image: Pushed) -> None:
    await line.wire.send(known + known)
    for _ in range(2):
        assert (await line.wire.answer()).body == image.content


async def test_a_known_head_behind_another_request_is_answered_second(line: Line, known: str, image: Pushed) -> None:
    await line.wire.send(head("GET", "/v2/", f"Authorization: {ADMIN}"))
    await line.wire.send(known)
    await line.wire.send(known)
    assert (await line.wire.answer()).body == b"{}"
    for _ in range(2):
        assert (await line.wire.answer()).body == image.content


async def test_a_known_head_waits_for_the_answer_to_a_slow_request(
    guarded: Registry, line: Line, known: str, image: Pushed
) -> None:
    location = await start_upload(guarded, IMAGE)
    given = line.kept.given
    await line.wire.send(head("PATCH", location, f"Authorization: {ADMIN}", EXPECT, length(3)))
    assert (await line.wire.answer()).status == 100  # its handler runs, and reads
    await line.wire.send("abc" + known)
    assert (await line.wire.answer()).status == 202
    assert (await line.wire.answer()).body == image.content
    assert line.kept.given == given


async def test_a_body_that_equals_a_known_head_is_a_body(guarded: Registry, line: Line, known: str) -> None:
    location = await start_upload(guarded, IMAGE)
    given = line.kept.given
    await line.wire.send(head("PATCH", location, f"Authorization: {ADMIN}", EXPECT, length(known.encode())))
    assert (await line.wire.answer()).status == 100
    await line.wire.send(known)
    answer = await line.wire.answer()
    assert (answer.status, answer.headers["range"]) == (202, f"0-{len(known) - 1}")
    assert line.kept.given == given


async def test_a_known_head_in_the_middle_of_another_is_a_part_of_that(line: Line, known: str) -> None:
    given = line.kept.given
    await line.wire.send("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-More: ")
    await asyncio.sleep(0.05)
    await line.wire.send(known)
    answer = await line.wire.answer()
    assert answer.status == 400  # the first line became a header, and so there are two of Host or of others
    assert line.kept.given == given


@pytest.mark.parametrize("at", [1, 20, -4])
async def test_a_known_head_in_two_pieces_is_run(line: Line, known: str, image: Pushed, at: int) -> None:
    given = line.kept.given
    await line.wire.send(known[:at])
    await asyncio.sleep(0.05)
    await line.wire.send(known[at:])
    assert (await line.wire.answer()).body == image.content
    assert line.kept.given == given
    await line.wire.send(known)
    assert (await line.wire.answer()).body == image.content
    assert line.kept.given == given + 1


async def test_after_a_body_the_next_known_head_is_run_and_the_one_after_it_given(
    guarded: Registry, line: Line, known: str, image: Pushed
) -> None:
    """Where the body ended, and whether something of the next head came with it, cannot be seen from outside."""
    location = await start_upload(guarded, IMAGE)
    await line.wire.send(head("PATCH", location, f"Authorization: {ADMIN}", length(3)) + "abc")
    assert (await line.wire.answer()).status == 202
    given = line.kept.given
    for expected in (given, given + 1):
        await line.wire.send(known)
        assert (await line.wire.answer()).body == image.content
        assert line.kept.given == expected


async def test_half_a_head_behind_a_body_does_not_swallow_a_known_one(
    guarded: Registry, line: Line, known: str, image: Pushed
) -> None:
    location = await start_upload(guarded, IMAGE)
    await line.wire.send(head("PATCH", location, f"Authorization: {ADMIN}", length(3)) + "abc" + "GET /v2/ HT")
    assert (await line.wire.answer()).status == 202
    given = line.kept.given
    await line.wire.send(known)
    assert (await line.wire.answer()).status == 400
    assert line.kept.given == given


@pytest.mark.parametrize(("line_of_it", "version"), [(CLOSE, "1.1"), ("X-Other: 1", "1.0"), (EXPECT, "1.1")])
async def test_what_closes_the_connection_or_waits_is_never_kept(
    guarded: Registry, server: Quick, image: Pushed, line_of_it: str, version: str
) -> None:
    token = await draw_token(guarded, f"repository:{IMAGE}:pull")
    for _ in range(4):
        async with server.line() as line:
            await line.wire.send(head("GET", TAG, f"Authorization: {token}", line_of_it, version=version))
            answer = await line.wire.answer()
            while answer.status == 100:
                answer = await line.wire.answer()
            assert answer.body == image.content
            if line_of_it != EXPECT:
                assert await line.wire.rest() == b""
    assert server.kept.given == 0


async def test_after_an_answer_that_closes_nothing_more_is_given(line: Line, known: str) -> None:
    await line.wire.send(head("GET", "/v2/", f"Authorization: {ADMIN}", CLOSE))
    assert (await line.wire.answer()).status == 200
    line.wire.writer.write(known.encode())
    assert await line.wire.rest() == b""


async def test_nothing_is_given_while_the_server_drains(guarded: Registry, line: Line, known: str) -> None:
    lifecycle = guarded.client.app[LIFECYCLE]  # type: ignore[index]
    lifecycle.draining = True
    given = line.kept.given
    await line.wire.send(known)
    assert (await line.wire.answer()).headers["connection"] == "close"
    assert line.kept.given == given


async def test_a_client_that_reads_nothing_gets_no_more_written_than_anybody(line: Line, known: str) -> None:
    line.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    given = line.kept.given
    for _ in range(20_000):
        line.wire.writer.write(known.encode())
        await asyncio.sleep(0)
        if line.wire.writer.transport.get_write_buffer_size() > 2**20:  # type: ignore[attr-defined]
            break
    else:
        raise AssertionError("everything was taken, and answered into memory")
    assert line.kept.given - given < 20_000


async def test_a_connection_that_has_only_had_kept_answers_is_no_silent_one(
    server: Quick, known: str, image: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)
    async with server.line() as line:
        await line.wire.send(known)
        assert (await line.wire.answer()).body == image.content
        await asyncio.sleep(0.4)
        await line.wire.send(known)
        assert (await line.wire.answer()).body == image.content


async def test_memory_is_bounded_and_what_came_first_goes_first(
    guarded: Registry, line: Line, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line.kept, "_most_bytes", 10_000)
    token = await draw_token(guarded, f"repository:{IMAGE}:pull")
    for number in range(20):
        for _ in range(2):
            assert (await line.ask("GET", TAG, token, f"X-Number: {number}")).status == 200
    entries = line.kept._entries
    assert line.kept._bytes == sum(entry.size for entry in entries.values()) <= 10_000
    assert len(entries) > 1
    assert asking("GET", TAG, token, "X-Number: 19").encode() in entries
    assert known.encode() not in entries


async def test_heads_that_come_once_leave_little_behind(
    guarded: Registry, line: Line, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "SEEN", 10)
    count = len(line.kept._entries)
    for number in range(30):
        await line.ask("GET", "/v2/", ADMIN, f"X-Number: {number}")
    assert len(line.kept._entries) == count
    assert len(line.kept._seen) == 10


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
async def test_the_line_in_the_log_is_the_one_of_a_request_that_was_run(
    line: Line, known: str, formatter: logging.Formatter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.kept._lines.flush()
    with (tmp_path / "log").open("w") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        access = logging.getLogger("regserver.access")
        monkeypatch.setattr(access, "propagate", False)
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        access.addHandler(handler)
        access.setLevel(logging.INFO)
        try:
            await line.wire.send("\r\n" + known)
            ids = [(await line.wire.answer()).headers["x-request-id"]]
            for _ in range(3):
                await line.wire.send(known)
                ids.append((await line.wire.answer()).headers["x-request-id"])
            await line.kept.close()
        finally:
            access.removeHandler(handler)
            access.setLevel(logging.NOTSET)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [identity in text for identity, text in zip(ids, lines, strict=True)] == [True] * 4
    plain = [_without(text, identity) for text, identity in zip(lines, ids, strict=True)]
    assert plain[1:] == [plain[0]] * 3


def _without(text: str, identity: str) -> str:
    """A line without what differs: its time, its milliseconds, its id."""
    if text.startswith("{"):
        event = json.loads(text)
        assert event.pop("request_id") == identity
        event.pop("time"), event.pop("ms")
        return json.dumps(event)
    words = text.replace(identity, "").split(" ")
    return " ".join(word for word in words[1:] if not word.startswith("ms="))


async def test_switched_off_nothing_is_kept(root: Path) -> None:
    async with served_app(root, dev=True, kept_answers_bytes=0) as client:
        assert kept.KEPT not in client.app  # type: ignore[operator]
    assert make_settings(root).kept_answers_bytes > 0
