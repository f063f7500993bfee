"""Answers that are given again: never one that the catalog would not give now, whoever has changed it."""

import asyncio
import http.client
import itertools
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from regserver.app import DATABASE
from regserver.model.times import now_ms
from regserver.storage.catalog import scrub
from regserver.storage.sql.port import Transaction
from support.managing import call, collect, make_registry, services_of
from support.pushing import (
    INDEX,
    Pushed,
    Registry,
    digest_of,
    draw_token,
    push_blob,
    push_image,
    put_manifest,
)
from support.quick import Line, Quick, quick
from support.served import serve

IMAGE = "my/api"
TAG = f"/v2/{IMAGE}/manifests/v1"
PULL = f"repository:{IMAGE}:pull"
PUSH = f"repository:{IMAGE}:pull,push"


@pytest.fixture
async def server(guarded: Registry) -> AsyncIterator[Quick]:
    async with quick(guarded) as found:
        yield found


@pytest.fixture
async def line(server: Quick) -> AsyncIterator[Line]:
    async with server.line() as found:
        yield found


@pytest.fixture
async def identity(guarded: Registry) -> str:
    return await make_registry(guarded, "my")


@pytest.fixture
async def image(guarded: Registry, identity: str) -> Pushed:
    return await push_image(guarded, IMAGE, "v1")


@pytest.fixture
async def token(guarded: Registry, image: Pushed) -> str:
    return await draw_token(guarded, PULL)


def layer(image: Pushed) -> str:
    return str(image.document["layers"][0]["digest"])


def paths(image: Pushed) -> list[str]:
    return [TAG, f"/v2/{IMAGE}/manifests/{image.digest}", f"/v2/{IMAGE}/blobs/{layer(image)}", "/v2/"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("place", range(4))
async def test_an_answer_that_is_given_again_is_the_answer(
    line: Line, image: Pushed, token: str, method: str, place: int
) -> None:
    path = paths(image)[place]
    first = await line.ask(method, path, token)
    again = await line.warm(method, path, token)
    assert (again.status, again.body) == (first.status, first.body)
    different = {"date", "x-request-id"}
    assert {k: v for k, v in again.headers.items() if k not in different} == {
        k: v for k, v in first.headers.items() if k not in different
    }
    assert again.headers["date"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def test_request_ids_of_answers_given_again_differ_and_sort_by_age(line: Line, token: str) -> None:
    await line.warm("GET", TAG, token)
    seen = [(await line.ask("GET", TAG, token)).headers["x-request-id"] for _ in range(50)]
    assert sorted(set(seen)) == seen
    assert all(len(identity) == len("req_") + 26 for identity in seen)


# Each is something that happens to the catalog after the answer was kept, with what the same request gets from then on.


async def moved(registry: Registry, identity: str, image: Pushed) -> None:
    await push_image(registry, IMAGE, "v1")


async def tag_deleted(registry: Registry, identity: str, image: Pushed) -> None:
    assert (await registry.send("DELETE", TAG)).status == 202


async def manifest_deleted(registry: Registry, identity: str, image: Pushed) -> None:
    assert (await registry.send("DELETE", f"/v2/{IMAGE}/manifests/{image.digest}")).status == 202


async def blob_deleted(registry: Registry, identity: str, image: Pushed) -> None:
    await manifest_deleted(registry, identity, image)
    assert (await registry.send("DELETE", f"/v2/{IMAGE}/blobs/{layer(image)}")).status == 202


async def collected(registry: Registry, identity: str, image: Pushed) -> None:
    await tag_deleted(registry, identity, image)
    assert (await collect(registry, identity))["manifests_deleted"] == 1


async def image_deleted(registry: Registry, identity: str, image: Pushed) -> None:
    assert (await call(registry, "DELETE", f"/registries/{identity}/images/api")).status < 300


async def registry_deleted(registry: Registry, identity: str, image: Pushed) -> None:
    answer = await call(registry, "DELETE", f"/registries/{identity}", query={"force": "true"})
    assert answer.status < 300, answer


async def blob_rotten(registry: Registry, identity: str, image: Pushed) -> None:
    db = services_of(registry).core.db

    async def body(tx: Transaction) -> None:
        key = await scrub.key_of(tx, layer(image))
        assert key is not None
        assert await scrub.mark_rotten(tx, layer(image), key, scrub.Rot.DIGEST, now_ms())

    await db.write(body)


async def manifest_rotten(registry: Registry, identity: str, image: Pushed) -> None:
    db = services_of(registry).core.db
    ((repository_id,),) = await db.fetch("SELECT id FROM repositories")

    async def body(tx: Transaction) -> None:
        assert await scrub.mark_manifest(tx, scrub.ManifestKey(repository_id, image.digest), now_ms())

    await db.write(body)


Change = Callable[[Registry, str, Pushed], Awaitable[None]]
BY_TAG, BY_DIGEST, BLOB = range(3)
CHANGES: list[tuple[Change, int]] = [
    (tag_deleted, BY_TAG),
    (manifest_deleted, BY_TAG),
    (manifest_deleted, BY_DIGEST),
    (blob_deleted, BLOB),
    (collected, BY_DIGEST),
    (collected, BLOB),
    (image_deleted, BY_TAG),
    (registry_deleted, BY_TAG),
    (registry_deleted, BLOB),
    (blob_rotten, BLOB),
    (manifest_rotten, BY_TAG),
    (manifest_rotten, BY_DIGEST),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("change", "place"), CHANGES, ids=lambda value: getattr(value, "__name__", str(value)))
async def test_what_has_gone_is_gone_for_the_next_request(
    guarded: Registry, identity: str, line: Line, image: Pushed, token: str, method: str, change: Change, place: int
) -> None:
    path = paths(image)[place]
    await line.warm(method, path, token)
    await change(guarded, identity, image)
    assert (await line.ask(method, path, token)).status == 404


async def test_a_moved_tag_names_its_new_manifest_at_once(
    guarded: Registry, line: Line, image: Pushed, token: str
) -> None:
    await line.warm("GET", TAG, token)
    new = await push_image(guarded, IMAGE, "v1")
    answer = await line.ask("GET", TAG, token)
    assert (answer.headers["docker-content-digest"], answer.body) == (new.digest, new.content)


async def test_a_tag_that_is_deleted_and_restored_is_gone_and_back(
    guarded: Registry, identity: str, line: Line, image: Pushed, token: str
) -> None:
    await line.warm("GET", TAG, token)
    await tag_deleted(guarded, identity, image)
    assert (await line.ask("GET", TAG, token)).status == 404
    assert (await call(guarded, "POST", f"/registries/{identity}/images/api/tags/v1/restore")).status == 200
    assert (await line.ask("GET", TAG, token)).body == image.content


async def test_what_has_rotted_and_was_pushed_again_is_served_again(
    guarded: Registry, identity: str, line: Line, image: Pushed, token: str
) -> None:
    content = b"bytes that rot"
    path = f"/v2/{IMAGE}/blobs/{await push_blob(guarded, IMAGE, content)}"
    await line.warm("GET", path, token)
    db = services_of(guarded).core.db

    async def body(tx: Transaction) -> None:
        key = await scrub.key_of(tx, digest_of(content))
        assert key is not None
        await scrub.mark_rotten(tx, digest_of(content), key, scrub.Rot.DIGEST, now_ms())

    await db.write(body)
    assert (await line.ask("GET", path, token)).status == 404
    await push_blob(guarded, IMAGE, content)
    assert (await line.ask("GET", path, token)).body == content


async def test_who_may_push_is_told_at_once_that_a_manifest_has_become_hollow(
    guarded: Registry, identity: str, line: Line, image: Pushed
) -> None:
    pusher = await draw_token(guarded, PUSH)
    await line.warm("HEAD", TAG, pusher)
    await blob_rotten(guarded, identity, image)
    assert (await line.ask("HEAD", TAG, pusher)).status == 404


async def test_refusals_and_ranges_and_lists_are_not_kept(
    guarded: Registry, line: Line, image: Pushed, token: str
) -> None:
    blob = f"/v2/{IMAGE}/blobs/{layer(image)}"
    for _ in range(4):
        assert (await line.ask("GET", f"/v2/{IMAGE}/manifests/none", token)).status == 404
        assert (await line.ask("GET", TAG)).status == 401
        assert (await line.ask("GET", blob, token, "Range: bytes=0-4")).status == 206
        assert (await line.ask("GET", TAG, token, f'If-None-Match: "{image.digest}"')).status == 304
        assert (await line.ask("GET", f"/v2/{IMAGE}/tags/list", token)).status == 200
        assert (await line.ask("GET", "/healthz")).status == 200
    assert line.kept.given == 0


# -- races and other processes


async def test_no_read_after_an_acknowledged_move_is_stale(
    guarded: Registry, server: Quick, identity: str, image: Pushed, token: str
) -> None:
    images = [await push_image(guarded, IMAGE) for _ in range(2)]
    place = 0
    current: list[tuple[int, str]] = [(place, image.digest)]  # what may be seen: the last move told of, and later ones
    done = False

    async def move() -> None:
        nonlocal done
        for number, target in zip(range(1, 200), itertools.cycle(images)):
            current.append((number, target.digest))
            await put_manifest(guarded, IMAGE, "v1", target.content)
            del current[:-1]
        done = True

    async def read() -> None:
        async with server.line() as line:
            while not done:
                allowed = current[0][1]
                answer = await line.ask("HEAD", TAG, token)
                assert answer.headers["docker-content-digest"] in {allowed, *(digest for _, digest in current)}
                await asyncio.sleep(0)

    await asyncio.gather(move(), *(read() for _ in range(3)))
    assert server.kept.given > 0


async def test_another_process_that_changes_the_catalog_is_seen_at_once(
    guarded: Registry, identity: str, line: Line, image: Pushed, token: str, root: Path
) -> None:
    """Whatever writes to the file, without a word to this process."""
    other = [await push_image(guarded, IMAGE) for _ in range(2)]
    await line.warm("GET", TAG, token)
    connection = sqlite3.connect(root / DATABASE, isolation_level=None)
    try:
        for number in range(300):
            target = other[number % 2]
            connection.execute("UPDATE tags SET digest = ?", (target.digest,))
            answer = await line.ask("GET", TAG, token)
            assert (answer.headers["docker-content-digest"], answer.body) == (target.digest, target.content)
    finally:
        connection.close()


def _read(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_second_server_on_the_same_folder_is_seen_at_once(tmp_path: Path, installation: Path) -> None:
    """Two real processes: what one was told, the other serves."""
    root = Path(shutil.copytree(installation, tmp_path / "root"))
    contents = [
        json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"n": str(n)}}).encode()
        for n in range(2)
    ]
    with serve(root, "--dev") as one, serve(root, "--dev") as two:
        ends = [http.client.HTTPConnection(server.host) for server in (one, two)]
        for number in range(100):
            content = contents[number % 2]
            ends[0].request("PUT", "/v2/a/b/manifests/v1", body=content, headers={"Content-Type": INDEX})
            assert _read(ends[0]) == (201, b"")
            for _ in range(3):
                ends[1].request("GET", "/v2/a/b/manifests/v1")
                assert _read(ends[1]) == (200, content)
        for end in ends:
            end.close()
