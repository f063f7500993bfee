"""Answers that are given again: to nobody whose rights have ended, and to a pusher only with its promise (L10)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from regserver.model.times import now_ms
from regserver.storage.catalog import clock
from regserver.storage.sql.port import Transaction
from support.managing import call, make_registry, services_of
from support.pushing import (
    Pushed,
    Registry,
    draw_token,
    make_image,
    push_blob,
    push_image,
    push_manifest,
)
from support.quick import Line, Quick, quick
from support.registry import ADMIN, served_app
from support.robots import bearer, login, make_robot

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


@pytest.mark.parametrize("place", range(3))
async def test_what_has_become_private_is_not_shown_to_strangers(
    guarded: Registry, identity: str, line: Line, image: Pushed, place: int
) -> None:
    path = paths(image)[place]
    assert (await call(guarded, "PATCH", f"/registries/{identity}", {"public": True})).status == 200
    await line.warm("GET", path)
    assert (await call(guarded, "PATCH", f"/registries/{identity}", {"public": False})).status == 200
    assert (await line.ask("GET", path)).status == 401


async def rotated(registry: Registry, identity: str, robot: str) -> None:
    assert (await call(registry, "POST", f"/registries/{identity}/robots/{robot}/rotate")).status == 200


async def narrowed(registry: Registry, identity: str, robot: str) -> None:
    changes = {"images": ["other/*"]}
    assert (await call(registry, "PATCH", f"/registries/{identity}/robots/{robot}", changes)).status == 200


async def ended(registry: Registry, identity: str, robot: str) -> None:
    db = services_of(registry).core.db

    async def body(tx: Transaction) -> None:
        await tx.execute("UPDATE credentials SET expires_at = $2 WHERE id = $1", robot, now_ms())

    await db.write(body)


async def robot_deleted(registry: Registry, identity: str, robot: str) -> None:
    assert (await call(registry, "DELETE", f"/registries/{identity}/robots/{robot}")).status == 204


@pytest.mark.parametrize("change", [rotated, narrowed, ended, robot_deleted], ids=lambda change: change.__name__)
async def test_a_robot_whose_rights_have_ended_gets_nothing_more(
    guarded: Registry, identity: str, line: Line, image: Pushed, change: Callable[..., Awaitable[None]]
) -> None:
    robot = await make_robot(guarded, identity, "ci", actions=["pull"])
    caller = (await bearer(guarded, robot, PULL)).credentials
    await line.warm("GET", TAG, caller)
    await change(guarded, identity, robot["id"])
    assert (await line.ask("GET", TAG, caller)).status == 401


async def test_a_token_gets_nothing_more_once_it_has_expired(
    line: Line, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await line.warm("GET", TAG, token)
    assert await line.is_given("GET", TAG, token)
    monkeypatch.setattr(line.kept, "_clock", lambda: now_ms() / 1000 + 300 + 61)
    assert not await line.is_given("GET", TAG, token)


async def test_a_password_in_its_grace_ends_with_it_and_so_does_a_robot_that_has_an_end(
    guarded: Registry, identity: str, line: Line, image: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = await make_robot(guarded, identity, "ci", actions=["pull"])
    caller = (await bearer(guarded, robot, PULL)).credentials
    answer = await call(guarded, "POST", f"/registries/{identity}/robots/{robot['id']}/rotate", {"grace_seconds": 100})
    assert answer.status == 200
    await line.warm("GET", TAG, caller)
    monkeypatch.setattr(line.kept, "_clock", lambda: now_ms() / 1000 + 99)
    assert await line.is_given("GET", TAG, caller)
    monkeypatch.setattr(line.kept, "_clock", lambda: now_ms() / 1000 + 101)
    assert not await line.is_given("GET", TAG, caller)


async def held(registry: Registry, digest: str) -> list[int]:
    """The epochs of the leases on a blob."""
    rows = await services_of(registry).core.db.fetch("SELECT epoch FROM blob_leases WHERE digest = $1", digest)
    return [row[0] for row in rows]


async def test_who_may_push_gets_a_kept_answer_only_while_its_lease_is_fresh(
    guarded: Registry, identity: str, line: Line
) -> None:
    """L10: what is told to a pusher is promised."""
    content, pusher = b"a layer", await draw_token(guarded, PUSH)
    digest = await push_blob(guarded, IMAGE, content)
    path = f"/v2/{IMAGE}/blobs/{digest}"
    core = services_of(guarded).core
    await core.db.write(leases_gone)
    await line.warm("HEAD", path, pusher)
    assert len(await held(guarded, digest)) == 1
    await core.db.write(leases_gone)  # as a manifest's PUT spends it, or time ends it
    assert (await line.ask("HEAD", path, pusher)).status == 200
    assert len(await held(guarded, digest)) == 1, "told that it exists, without a promise"


async def leases_gone(tx: Transaction) -> None:
    await tx.execute("DELETE FROM blob_leases")


async def test_a_lease_that_has_half_its_life_behind_it_is_taken_again(
    guarded: Registry, identity: str, line: Line
) -> None:
    pusher = await draw_token(guarded, PUSH)
    digest = await push_blob(guarded, IMAGE)
    path = f"/v2/{IMAGE}/blobs/{digest}"
    await line.warm("HEAD", path, pusher)
    core = services_of(guarded).core

    async def later(tx: Transaction) -> None:
        await tx.execute("UPDATE clock SET epoch = epoch + $1", core.epochs(core.settings.lease_seconds) // 2 + 1)

    await core.db.write(later)
    assert (await line.ask("HEAD", path, pusher)).status == 200
    now = await clock.epoch(core.db)
    assert now in await held(guarded, digest)


async def test_a_push_spends_the_lease_and_the_next_question_takes_another(
    guarded: Registry, identity: str, line: Line
) -> None:
    pusher = await draw_token(guarded, PUSH)
    registry = guarded.seen_by(pusher)
    document = await make_image(registry, IMAGE)
    digest = str(document["layers"][0]["digest"])
    path = f"/v2/{IMAGE}/blobs/{digest}"
    await line.warm("HEAD", path, pusher)
    await push_manifest(registry, IMAGE, document, "v1")
    assert await held(guarded, digest) == []
    assert (await line.ask("HEAD", path, pusher)).status == 200
    assert len(await held(guarded, digest)) == 1


async def test_credentials_that_are_shared_or_can_be_guessed_at_are_judged_each_time(
    guarded: Registry, identity: str, line: Line, image: Pushed
) -> None:
    robot = await make_robot(guarded, identity, "ci", actions=["pull"])
    for caller in (login(guarded, robot).credentials, guarded.credentials):
        for _ in range(4):
            assert not await line.is_given("GET", TAG, caller)


async def test_every_request_counts_where_requests_are_limited(root: Path) -> None:
    async with served_app(root, requests_per_second=1) as client:
        registry = Registry(client, ADMIN)
        async with quick(registry) as server, server.line() as line:
            statuses = [(await line.ask("GET", "/v2/", ADMIN)).status for _ in range(30)]
            assert 429 in statuses
            assert server.kept.given == 0


async def test_a_pull_that_is_given_again_is_noted_like_any_other(
    guarded: Registry, identity: str, line: Line, image: Pushed
) -> None:
    robot = await make_robot(guarded, identity, "ci", actions=["pull"])
    caller = (await bearer(guarded, robot, PULL)).credentials
    await line.warm("GET", TAG, caller)
    services = services_of(guarded)
    await services.core.pulls.flush(services.core.db)
    await services.robots.flush(final=True)
    await line.warm("GET", TAG, caller)  # its robot's row says now when it was used
    await services.core.pulls.flush(services.core.db)
    services.robots._uses._noted.clear()
    assert await line.is_given("GET", TAG, caller)
    assert await services.core.pulls.flush(services.core.db) == 1
    assert set(services.robots._uses._noted) == {robot["id"]}
