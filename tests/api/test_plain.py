"""Plain requests, run without the framework: the answer is the one that it would have given, byte for byte."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regserver.model.ids import is_id
from regserver.web.routing import PLAIN
from support.managing import call, make_registry
from support.pushing import Pushed, Registry, digest_of, draw_token, make_content, push_blob, push_image
from support.quick import Line, quick
from support.registry import ADMIN, served_app
from support.wire import RawAnswer, Wire, connected, head

IMAGE = "my/api"
TAG = f"/v2/{IMAGE}/manifests/v1"
LARGE = make_content(100_000)
PLAINLY = ("User-Agent: docker/27", "Accept: */*", "Accept: text/plain", "Accept-Encoding: gzip")


@pytest.fixture
async def image(guarded: Registry) -> Pushed:
    await make_registry(guarded, "my", public=True)
    await push_blob(guarded, IMAGE, LARGE)
    return await push_image(guarded, IMAGE, "v1")


@pytest.fixture
async def line(guarded: Registry, image: Pushed) -> AsyncIterator[Line]:
    async with quick(guarded) as server, server.line() as found:
        yield found


@pytest.fixture
async def framework(guarded: Registry, image: Pushed) -> AsyncIterator[Wire]:
    """A connection to the listener that only has the framework."""
    async with connected(guarded) as found:
        yield found


def paths(image: Pushed) -> dict[str, str]:
    layer = image.document["layers"][0]["digest"]
    return {
        "tag": TAG,
        "digest": f"/v2/{IMAGE}/manifests/{image.digest}",
        "blob": f"/v2/{IMAGE}/blobs/{layer}",
        "base": "/v2/",
        "large": f"/v2/{IMAGE}/blobs/{digest_of(LARGE)}",
        "unknown": f"/v2/{IMAGE}/manifests/none",
        "unknown blob": f"/v2/{IMAGE}/blobs/{digest_of(b'')}",
        "no digest": f"/v2/{IMAGE}/blobs/uploads",
        "elsewhere": "/v2/none/none/manifests/v1",
        "no name": "/v2/manifests/v1",
        "short": "/v2/my/manifests/v1",
        "empty part": "/v2/my//manifests/v1",
        "dots": "/v2/my/../my/api/manifests/v1",
        "upper": "/v2/My/api/manifests/v1",
        "nothing": f"/v2/{IMAGE}/manifests/",
        "words": "/v2/my/blobs/manifests/manifests/v1",
    }


def compared(answer: RawAnswer) -> tuple[int, dict[str, str], bytes]:
    """What of an answer must be the same; a refusal tells its request's id in its body, too."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    return answer.status, headers, answer.body


async def ask(wire: Wire, method: str, path: str, lines: tuple[str, ...]) -> RawAnswer:
    await wire.send(head(method, path, *lines))
    return await wire.answer(method)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("who", ["nobody", "puller", "pusher", "stale"])
async def test_both_ways_give_the_same_answer(
    guarded: Registry, line: Line, framework: Wire, image: Pushed, method: str, who: str
) -> None:
    scope = f"repository:{IMAGE}:pull" + (",push" if who == "pusher" else "")
    token = await draw_token(guarded, scope)
    credentials = () if who == "nobody" else (f"Authorization: {token if who != 'stale' else token[:-4] + 'AAAA'}",)
    run = line.kept.run
    for name, path in paths(image).items():
        for _ in range(2):
            answers = [await ask(wire, method, path, (*credentials, *PLAINLY)) for wire in (line.wire, framework)]
            assert compared(answers[0]) == compared(answers[1]), name
            assert is_id("req", answers[0].headers["x-request-id"])
    assert (line.kept.run > run) == (who != "stale")


PUBLIC = f"/v2/{IMAGE}/manifests/v1"
ODD = {
    "range": "Range: bytes=0-3",
    "condition": 'If-None-Match: "x"',
    "two of host": "Host: other",
    "length": "Content-Length: 0",
    "close": "Connection: close",
    "expect": "Expect: 100-continue",
    "two of a kind": "User-Agent: a\r\nUser-Agent: b",
    "folded": "Accept: a\r\n b",
    "tab": "Accept:\ta",
    "no space": "Accept:a",
    "trailing space": "Accept: a ",
    "not ascii": "Accept: \xe4",
    "empty": "Accept: ",
    "basic": f"Authorization: {ADMIN}",
    "plain token": "Authorization: Bearer something",
    "lower case": "authorization: bearer a.b.c",
    "unknown": "X-Something: else",
    "smuggled": "Transfer-Encoding: chunked\r\nContent-Length: 5",
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_odd_is_left_to_the_framework_or_means_the_same_to_both(
    guarded: Registry, image: Pushed, name: str
) -> None:
    async with quick(guarded) as server, server.line() as line, connected(guarded) as framework:
        answers = []
        for wire in (line.wire, framework):
            await wire.send(
                head("GET", PUBLIC, ODD[name]).encode("latin-1"), b"0\r\n\r\n" if name == "smuggled" else b""
            )
            answer = await wire.answer()
            answers.append(answer if answer.status != 100 else await wire.answer())
        if answers[0].status < 400:
            assert compared(answers[0]) == compared(answers[1])
        assert answers[0].status == answers[1].status
        assert server.kept.run == (1 if name == "no space" else 0)


async def test_a_decision_is_made_again_once_what_it_rests_on_has_changed(guarded: Registry, line: Line) -> None:
    for number in range(3):
        assert (await line.ask("GET", PUBLIC, None, f"User-Agent: {number}")).status == 200
    assert line.kept.run == 3
    identity = (await call(guarded, "GET", "/registries", query={"name": "my"})).json["data"][0]["id"]
    assert (await call(guarded, "PATCH", f"/registries/{identity}", {"public": False})).status == 200
    assert (await line.ask("GET", PUBLIC, None, "User-Agent: 4")).status == 401


async def test_a_pusher_s_question_that_needs_a_promise_is_answered_by_the_framework(
    guarded: Registry, line: Line, image: Pushed
) -> None:
    pusher = await draw_token(guarded, f"repository:{IMAGE}:pull,push")
    path = f"/v2/{IMAGE}/blobs/{digest_of(LARGE)}"
    assert (await line.ask("HEAD", path, pusher)).status == 200
    assert line.kept.run == 0
    assert (await line.ask("HEAD", path, pusher, "User-Agent: again")).status == 200
    assert line.kept.run == 1


@pytest.mark.parametrize("settings", [{"requests_per_second": 5}, {"dev": True}])
async def test_requests_that_are_counted_or_judged_by_their_host_are_not_plain(
    root: Path, settings: dict[str, Any]
) -> None:
    async with served_app(root, **settings) as client:
        registry = Registry(client, ADMIN)
        async with quick(registry) as server, server.line() as line:
            assert server.kept._routes == {}
            assert (await line.ask("GET", "/healthz")).status == 200
            assert client.app[PLAIN]
