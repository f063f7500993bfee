"""The wall clock jumps by a year, forth or back, in the middle of a push and of a collection. Nothing goes for it."""

import dataclasses
import time
from pathlib import Path

import pytest

from regserver.content.collector import Collector, Progress
from regserver.content.housekeeping import Housekeeping
from regserver.storage.catalog import clock
from support.clocks import YEAR_SECONDS, WallClock
from support.managing import call, collect, services_of
from support.pushing import (
    OCTETS,
    Registry,
    descriptor,
    digest_of,
    draw_token,
    id_of,
    make_content,
    push_blob,
    push_image,
    put_manifest,
    start_upload,
)
from support.registry import ADMIN, served_app

REPOSITORY = "my/api"
JUMPS = pytest.mark.parametrize("jump", [YEAR_SECONDS, -YEAR_SECONDS], ids=["a year ahead", "a year back"])


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


async def pulls(registry: Registry, reference: str) -> bytes | None:
    answer = await registry.send("GET", f"/v2/{REPOSITORY}/manifests/{reference}")
    assert answer.status in (200, 404), answer
    return answer.body if answer.status == 200 else None


async def turn(registry: Registry) -> None:
    """What the server does by itself, and the collection that nobody asked for."""
    core = services_of(registry).core
    await Housekeeping(core).run_once()
    await Collector(core).collect(await id_of(registry, "my"), patient=True)


@JUMPS
async def test_a_push_goes_on_over_the_jump(guarded: Registry, wall: WallClock, jump: float) -> None:
    robot = dataclasses.replace(guarded, credentials=await guarded.make_robot("my"))
    held = make_content()
    await push_blob(robot, REPOSITORY, held)
    assert (await robot.send("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(held)}")).status == 200
    location, first, rest = await start_upload(robot, REPOSITORY), make_content(5000), make_content(7000)
    await robot.send("PATCH", location, data=first, headers={"Content-Type": OCTETS})
    epoch = await clock.epoch(services_of(guarded).core.db)
    wall.jump(jump)
    await turn(guarded)
    await collect(guarded, await id_of(guarded, "my"))
    assert (await robot.send("GET", location)).headers["Range"] == "0-4999"
    sent = await robot.send("PUT", location, data=rest, query={"digest": digest_of(first + rest)})
    assert sent.status == 201, sent
    layers = [descriptor(content, OCTETS) for content in (held, first + rest)]
    document = {"schemaVersion": 2, "config": layers[0], "layers": layers}
    assert (await put_manifest(robot, REPOSITORY, "v1", document)).status == 201
    for content in (held, first + rest):
        assert (await robot.send("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")).body == content
    assert await clock.epoch(services_of(guarded).core.db) == epoch


@JUMPS
async def test_a_token_that_is_refused_after_the_jump_is_drawn_anew(
    guarded: Registry, wall: WallClock, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_of(guarded).tokens, "_clock", lambda: time.time())
    robot = dataclasses.replace(guarded, credentials=await guarded.make_robot("my"))
    scope = f"repository:{REPOSITORY}:pull,push"
    bearer = dataclasses.replace(guarded, credentials=await draw_token(robot, scope))
    image = await push_image(bearer, REPOSITORY, "v1")
    wall.jump(jump)
    again = dataclasses.replace(guarded, credentials=await draw_token(robot, scope))
    assert await pulls(again, "v1") == image.content
    await push_image(again, REPOSITORY, "v2")
    stale = await bearer.send("GET", f"/v2/{REPOSITORY}/manifests/v1")
    assert stale.status in (200, 401), stale


@JUMPS
async def test_no_age_that_deletes_has_passed_after_the_jump(root: Path, wall: WallClock, jump: float) -> None:
    async with served_app(root) as client:
        guarded = Registry(client, ADMIN)
        identity = str((await call(guarded, "POST", "/registries", {"name": "my"})).json["data"]["id"])
        tagged, deleted = [await push_image(guarded, REPOSITORY, name) for name in ("kept", "deleted")]
        untagged = await push_image(guarded, REPOSITORY)
        assert (await guarded.send("DELETE", f"/v2/{REPOSITORY}/manifests/deleted")).status == 202
        before = await lines(guarded)
        wall.jump(jump)
        await turn(guarded)
        assert await lines(guarded) == before
    async with served_app(root) as client:
        guarded = Registry(client, ADMIN)
        await turn(guarded)
        tag = f"/registries/{identity}/images/api/tags/deleted/restore"
        assert (await call(guarded, "POST", tag)).status == 200
        for reference, image in (("kept", tagged), ("deleted", deleted), (untagged.digest, untagged)):
            assert await pulls(guarded, reference) == image.content


async def lines(registry: Registry) -> int:
    return int((await services_of(registry).core.db.fetch("SELECT count(*) FROM audit"))[0][0])


@JUMPS
async def test_a_collection_takes_what_is_dead_and_no_more_over_the_jump(
    guarded: Registry, wall: WallClock, jump: float
) -> None:
    identity = str((await call(guarded, "POST", "/registries", {"name": "my"})).json["data"]["id"])
    kept = await push_image(guarded, REPOSITORY, "kept")
    dead = await push_image(guarded, REPOSITORY, "dead")
    untagged = await push_image(guarded, REPOSITORY)
    assert (await guarded.send("DELETE", f"/v2/{REPOSITORY}/manifests/dead")).status == 202
    phases: list[str] = []

    async def jump_now(progress: Progress) -> None:
        if progress.phase not in phases:
            phases.append(progress.phase)
            wall.jump(jump)

    report = await Collector(services_of(guarded).core).collect(identity, jump_now)
    assert (report.manifests_deleted, phases[:2]) == (1, ["manifests", "links"])
    assert await pulls(guarded, dead.digest) is None
    for image in (kept, untagged):
        assert await pulls(guarded, image.digest) == image.content
    assert (await collect(guarded, identity))["status"] == "completed"
