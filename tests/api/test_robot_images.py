"""Robots of some images: what they reach, what they list, and what they may take from elsewhere."""

import pytest

from support.managing import make_registry
from support.pushing import Registry, push_image
from support.robots import bearer, login, make_robot, pulled


@pytest.mark.parametrize("by", ["password", "token"])
async def test_a_robot_of_some_images_finds_no_others(guarded: Registry, by: str) -> None:
    registry_id = await make_registry(guarded, "a")
    for image in ("team/api", "team/api/debug", "web"):
        await push_image(guarded, f"a/{image}", "v1")
    robot = await make_robot(guarded, registry_id, "ci", images=["team/*"])
    scope = " ".join(f"repository:a/{image}:*" for image in ("team/api", "team/api/debug", "web", "team/new"))
    comer = login(guarded, robot) if by == "password" else await bearer(guarded, robot, scope)
    assert [await pulled(comer, f"a/{image}") for image in ("team/api", "team/api/debug", "web")] == [200, 401, 401]
    await push_image(comer, "a/team/new", "v1")
    for image in ("web", "team/api/debug"):
        assert (await comer.send("POST", f"/v2/a/{image}/blobs/uploads/")).status == 401
        assert (await comer.send("DELETE", f"/v2/a/{image}/manifests/v1")).status == 401


async def test_what_is_public_every_robot_may_pull(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a", public=True)
    await push_image(guarded, "a/web", "v1")
    robot = login(guarded, await make_robot(guarded, registry_id, "ci", images=["team/*"]))
    assert await pulled(robot, "a/web") == 200
    assert (await robot.send("POST", "/v2/a/web/blobs/uploads/")).status == 401
    assert (await robot.send("GET", "/v2/_catalog")).json == {"repositories": ["a/web"]}


async def test_the_catalog_shows_what_a_robot_may_pull(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regserver.content.listing.LEAST", 2)
    registry_id = await make_registry(guarded, "a")
    images = [f"{folder}/{number}" for folder in ("dev", "team", "web") for number in range(3)]
    for image in images:
        await push_image(guarded, f"a/{image}", "v1")
    await make_registry(guarded, "b")
    await push_image(guarded, "b/team/1", "v1")
    robot = login(guarded, await make_robot(guarded, registry_id, "ci", images=["team/*", "web/2"]))
    wanted = ["a/team/0", "a/team/1", "a/team/2", "a/web/2"]
    assert (await robot.send("GET", "/v2/_catalog")).json == {"repositories": wanted}
    for size in (1, 2, 3, 4, 5):
        found, path = [], f"/v2/_catalog?n={size}"
        while path:
            page = await robot.send("GET", path)
            found += page.json["repositories"]
            assert len(page.json["repositories"]) <= size
            path = page.headers.get("Link", "").partition("<")[2].partition(">")[0]
        assert found == wanted, size
    pusher = login(guarded, await make_robot(guarded, registry_id, "blind", actions=["delete"], images=["team/*"]))
    assert (await pusher.send("GET", "/v2/_catalog")).json == {"repositories": []}


@pytest.mark.parametrize("public", [False, True])
async def test_a_mount_takes_only_what_the_robot_may_pull(
    guarded: Registry, public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regserver.content.blobs.IMAGES_AT_ONCE", 1)
    registry_id = await make_registry(guarded, "a", public=public)
    hidden = (await push_image(guarded, "a/web", "v1")).document["layers"][0]["digest"]
    seen = (await push_image(guarded, "a/team/api", "v1")).document["layers"][0]["digest"]
    robot = login(guarded, await make_robot(guarded, registry_id, "ci", images=["team/*"]))
    for number, query in enumerate(({}, {"from": "a/web"}, {"from": "a/nothing"}, {"from": "a/team/api"})):
        target = f"/v2/a/team/{number}/blobs/uploads/"
        mounted = await robot.send("POST", target, query={"mount": hidden, **query})
        readable = public and query.get("from", "a/web") == "a/web"
        assert mounted.status == (201 if readable else 202), query
    for query in ({}, {"from": "a/team/api"}):
        mounted = await robot.send("POST", "/v2/a/team/new/blobs/uploads/", query={"mount": seen, **query})
        assert mounted.status == 201, query
    # Linked in both now: any one of them will do, whichever comes first.
    assert (await guarded.send("POST", "/v2/a/team/x/blobs/uploads/", query={"mount": hidden})).status == 201
    assert (await robot.send("POST", "/v2/a/team/y/blobs/uploads/", query={"mount": hidden})).status == 201
