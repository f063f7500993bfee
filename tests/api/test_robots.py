"""More robots in a registry: made, shown, changed, ended over /v1, and held to their rights under /v2."""

from pathlib import Path
from typing import Any

import pytest

from regserver.content.flushing import Flushing
from regserver.model.times import now_ms, parse_rfc3339
from support.managing import call, faults, make_registry, refusal, services_of
from support.pushing import Registry, push_image
from support.registry import ADMIN, served_app
from support.robots import bearer, login, make_robot, pulled

FAR = "2126-01-01T00:00:00Z"
ALL = ["pull", "push", "delete"]


async def test_a_new_robot_is_exactly_what_is_documented(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    asked = {"name": "ci", "actions": ["push", "pull"], "images": ["team/*", "web"], "expires_at": FAR}
    answer = await call(guarded, "POST", f"/registries/{registry_id}/robots", asked)
    data = answer.json["data"]
    password = data.pop("password")
    path = f"/registries/{registry_id}/robots/{data['id']}"
    assert answer.status == 201
    assert (answer.headers["Location"], answer.headers["Cache-Control"]) == (f"/v1{path}", "no-store")
    assert data["id"].startswith("rob_")
    assert password.startswith("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.")
    assert data == {
        "id": data["id"],
        "name": "ci",
        "username": "robot$a+ci",
        "actions": ["pull", "push"],
        "images": ["team/*", "web"],
        "expires_at": FAR,
        "last_used_at": None,
        "created_at": data["created_at"],
    }
    shown = await call(guarded, "GET", path)
    assert (shown.json, shown.headers["ETag"]) == ({"data": data}, answer.headers["ETag"])


async def test_a_robot_may_do_everything_everywhere_for_ever_unless_it_is_said(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = await make_robot(guarded, registry_id, "ci")
    assert (robot["actions"], robot["images"], robot["expires_at"]) == (ALL, None, None)
    await push_image(login(guarded, robot), "a/team/api", "v1")


async def test_the_list_begins_with_the_registry_s_own_robot(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    made = [await make_robot(guarded, registry_id, name) for name in ("z", "b")]
    await make_robot(guarded, await make_registry(guarded, "other"), "x")
    listed = await call(guarded, "GET", f"/registries/{registry_id}/robots")
    own, *others = listed.json["data"]
    assert (own["name"], own["username"], own["actions"], own["images"]) == (None, "robot$a", ALL, None)
    assert [row["id"] for row in others] == [robot["id"] for robot in made]
    assert all(set(row) == set(made[0]) - {"password"} for row in (own, *others))
    assert listed.json["meta"] == {"total": 3, "page": 1, "per_page": 20}
    paged = await call(guarded, "GET", f"/registries/{registry_id}/robots", query={"page": "2", "per_page": "2"})
    assert [row["name"] for row in paged.json["data"]] == ["b"]
    alone = await call(guarded, "GET", f"/registries/{registry_id}/robots/{own['id']}")
    assert alone.json["data"] == own


async def test_the_registry_s_own_robot_stays_as_it_is_but_for_its_password(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    own = (await call(guarded, "GET", f"/registries/{registry_id}/robots")).json["data"][0]
    path = f"/registries/{registry_id}/robots/{own['id']}"
    assert refusal(await call(guarded, "PATCH", path, {"actions": ["pull"]})) == (409, "own_robot")
    assert refusal(await call(guarded, "DELETE", path)) == (409, "own_robot")
    rotated = (await call(guarded, "POST", f"{path}/rotate")).json["data"]
    credentials = (await call(guarded, "GET", f"/registries/{registry_id}/credentials")).json["data"]
    assert rotated == {**own, "password": credentials["password"]}
    await push_image(login(guarded, rotated), "a/b", "v1")


async def test_a_name_stands_for_one_robot_of_a_registry(guarded: Registry) -> None:
    ids = [await make_registry(guarded, name) for name in ("a", "b")]
    for registry_id in ids:
        await make_robot(guarded, registry_id, "ci")
    answer = await call(guarded, "POST", f"/registries/{ids[0]}/robots", {"name": "ci"})
    assert refusal(answer) == (409, "already_exists")
    assert (await call(guarded, "GET", f"/registries/{ids[0]}/robots")).json["meta"]["total"] == 2


@pytest.mark.parametrize("by", ["password", "token"])
async def test_a_robot_does_only_what_it_may(guarded: Registry, by: str) -> None:
    registry_id = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")

    async def comes(robot: dict[str, Any]) -> list[int]:
        registry = login(guarded, robot) if by == "password" else await bearer(guarded, robot, "repository:a/api:*")
        steps = ("GET", "/v2/a/api/manifests/v1"), ("POST", "/v2/a/api/blobs/uploads/")
        statuses = [(await registry.send(*step)).status for step in steps]
        return [*statuses, (await registry.send("DELETE", "/v2/a/api/manifests/nothing")).status]

    pulls, pushes = [
        await make_robot(guarded, registry_id, "-".join(some), actions=some) for some in (ALL[:1], ALL[:2])
    ]
    deletes = await make_robot(guarded, registry_id, "deletes", actions=["delete"])
    assert await comes(pulls) == [200, 401, 401]
    assert await comes(pushes) == [200, 202, 401]
    assert await comes(deletes) == [401, 401, 404]


async def test_a_change_holds_at_once_for_tokens_drawn_before(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    for image in ("api", "web"):
        await push_image(guarded, f"a/{image}", "v1")
    robot = await make_robot(guarded, registry_id, "ci", expires_at=FAR)
    token = await bearer(guarded, robot, "repository:a/api:* repository:a/web:*")
    path = f"/registries/{registry_id}/robots/{robot['id']}"
    changed = await call(guarded, "PATCH", path, {"actions": ["pull"], "images": ["web"], "expires_at": None})
    assert changed.json["data"] == {
        **{name: value for name, value in robot.items() if name != "password"},
        "actions": ["pull"],
        "images": ["web"],
        "expires_at": None,
        "last_used_at": changed.json["data"]["last_used_at"],
    }
    for comer in (token, login(guarded, robot)):
        assert [await pulled(comer, f"a/{image}") for image in ("api", "web")] == [401, 200]
        assert (await comer.send("POST", "/v2/a/web/blobs/uploads/")).status == 401
    assert (await call(guarded, "PATCH", path, {"images": None})).json["data"]["actions"] == ["pull"]
    assert await pulled(token, "a/api") == 200


async def test_a_change_is_made_to_what_was_seen(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = await make_robot(guarded, registry_id, "ci")
    path = f"/registries/{registry_id}/robots/{robot['id']}"
    first = (await call(guarded, "GET", path)).headers["ETag"]
    same = await call(guarded, "PATCH", path, {"actions": ALL}, headers={"If-Match": first})
    assert (same.status, same.headers["ETag"]) == (200, first), "what changes nothing changes no ETag"
    second = (await call(guarded, "PATCH", path, {"actions": ["pull"]}, headers={"If-Match": first})).headers["ETag"]
    assert second != first
    for method, body in (("PATCH", {"actions": ["delete"]}), ("DELETE", None)):
        stale = await call(guarded, method, path, body, headers={"If-Match": first})
        assert refusal(stale) == (412, "precondition_failed")
    assert (await call(guarded, "GET", path)).json["data"]["actions"] == ["pull"]
    await call(guarded, "POST", f"{path}/rotate")
    assert (await call(guarded, "GET", path)).headers["ETag"] == second
    assert (await call(guarded, "PATCH", path, {"actions": ALL}, headers={"If-Match": "*"})).status == 200
    assert (await call(guarded, "DELETE", path)).status == 204


async def test_an_expired_robot_is_dead_with_its_tokens_until_it_is_given_more_time(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry_id = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    robot = await make_robot(guarded, registry_id, "ci", expires_at=FAR)
    comers = login(guarded, robot), await bearer(guarded, robot, "repository:a/api:pull")
    end = parse_rfc3339(FAR)
    for now, status in ((end - 1, 200), (end, 401)):
        monkeypatch.setattr("regserver.auth.robots.now_ms", lambda now=now: now)
        assert [await pulled(comer, "a/api") for comer in comers] == [status] * 2
    assert (await login(guarded, robot).send("GET", "/token")).status == 401
    answer = await call(guarded, "PATCH", f"/registries/{registry_id}/robots/{robot['id']}", {"expires_at": None})
    assert answer.status == 200
    assert [await pulled(comer, "a/api") for comer in comers] == [200] * 2


async def test_an_expired_robot_is_refused_like_a_wrong_password(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = await make_robot(guarded, registry_id, "ci")
    await services_of(guarded).core.db.write(
        lambda tx: tx.execute("UPDATE credentials SET expires_at = $2 WHERE id = $1", robot["id"], now_ms() - 1)
    )
    wrong = {**robot, "password": robot["password"][:-8] + "AAAAAAAA"}
    told = []
    for one in (robot, wrong):
        answer = await login(guarded, one).send("GET", "/v2/a/api/manifests/v1")
        told.append((answer.status, answer.headers["WWW-Authenticate"], answer.body))
    assert told[0] == told[1]


async def test_a_deleted_robot_is_dead_with_its_tokens_and_its_name_is_free(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    robot = await make_robot(guarded, registry_id, "ci")
    comers = login(guarded, robot), await bearer(guarded, robot, "repository:a/api:pull")
    path = f"/registries/{registry_id}/robots/{robot['id']}"
    assert [await pulled(comer, "a/api") for comer in comers] == [200] * 2
    assert (await call(guarded, "DELETE", path)).status == 204
    assert [await pulled(comer, "a/api") for comer in comers] == [401] * 2
    for method, tail in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/rotate")):
        body = {} if method == "PATCH" else None
        assert refusal(await call(guarded, method, path + tail, body)) == (404, "not_found")
    again = await make_robot(guarded, registry_id, "ci")
    assert again["id"] != robot["id"]
    assert [await pulled(comer, "a/api") for comer in (*comers, login(guarded, again))] == [401, 401, 200]


async def test_a_rotation_with_grace_leaves_the_old_password_for_a_while(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry_id = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    robot = await make_robot(guarded, registry_id, "ci", actions=["pull"])
    path = f"/registries/{registry_id}/robots/{robot['id']}/rotate"
    rotated = (await call(guarded, "POST", path, {"grace_seconds": 60})).json["data"]
    assert set(rotated) == {*robot, "previous_valid_until"}
    assert {**rotated, "password": 0, "previous_valid_until": 0} == {**robot, "password": 0, "previous_valid_until": 0}
    comers = login(guarded, robot), login(guarded, rotated)
    assert [await pulled(comer, "a/api") for comer in comers] == [200, 200]
    monkeypatch.setattr("regserver.auth.robots.now_ms", lambda: now_ms() + 60_001)
    assert [await pulled(comer, "a/api") for comer in comers] == [401, 200]
    monkeypatch.undo()
    assert "previous_valid_until" not in (await call(guarded, "POST", path)).json["data"]
    assert [await pulled(comer, "a/api") for comer in comers] == [401, 401]


async def test_robots_end_with_their_registry(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a", public=False)
    robot = await make_robot(guarded, registry_id, "ci")
    path = f"/registries/{registry_id}/robots"
    assert (await call(guarded, "DELETE", f"/registries/{registry_id}")).status == 204
    await make_registry(guarded, "a")
    assert (await login(guarded, robot).send("GET", "/v2/")).status == 401
    for tail in ("", f"/{robot['id']}"):
        assert refusal(await call(guarded, "GET", path + tail)) == (404, "not_found")
    assert refusal(await call(guarded, "POST", path, {"name": "ci"})) == (404, "not_found")


async def test_another_registry_s_robot_is_not_found(guarded: Registry) -> None:
    ids = [await make_registry(guarded, name) for name in ("a", "b")]
    robot = await make_robot(guarded, ids[0], "ci")
    for identity in (robot["id"], "rob_" + "0" * 26, "tok_" + "0" * 26, "x"):
        for method, body in (("GET", None), ("PATCH", {"actions": ["pull"]}), ("DELETE", None)):
            answer = await call(guarded, method, f"/registries/{ids[1]}/robots/{identity}", body)
            assert refusal(answer) == (404, "not_found")
    assert (await call(guarded, "GET", f"/registries/{ids[0]}/robots/{robot['id']}")).json["data"]["actions"] == ALL


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({}, {("name", "required")}),
        ({"name": "CI"}, {("name", "invalid_format")}),
        ({"name": ""}, {("name", "invalid_format")}),
        ({"name": "a+b"}, {("name", "invalid_format")}),
        ({"name": "x" * 64}, {("name", "too_long")}),
        ({"name": "x", "actions": []}, {("actions", "invalid_length")}),
        ({"name": "x", "actions": ["push"]}, {("actions", "incomplete")}),
        ({"name": "x", "actions": ["pull", "admin"]}, {("actions.1", "unknown_value")}),
        ({"name": "x", "actions": "pull"}, {("actions", "wrong_type")}),
        ({"name": "x", "actions": None}, {("actions", "wrong_type")}),
        ({"name": "x", "images": []}, {("images", "invalid_length")}),
        (
            {"name": "x", "images": ["team/*", "/x", "a**b", 1]},
            {("images.1", "invalid_format"), ("images.2", "invalid_format"), ("images.3", "wrong_type")},
        ),
        ({"name": "x", "images": ["a"] * 51}, {("images", "invalid_length")}),
        ({"name": "x", "expires_at": "soon"}, {("expires_at", "invalid_format")}),
        ({"name": "x", "expires_at": "2026-01-01T00:00:00Z"}, {("expires_at", "in_the_past")}),
        ({"name": "x", "password": "mine"}, {("password", "unknown_field")}),
    ],
)
async def test_what_makes_no_robot_is_said_field_by_field(
    guarded: Registry, document: dict[str, Any], wrong: set[tuple[str, str]]
) -> None:
    registry_id = await make_registry(guarded, "a")
    assert faults(await call(guarded, "POST", f"/registries/{registry_id}/robots", document)) == wrong
    assert (await call(guarded, "GET", f"/registries/{registry_id}/robots")).json["meta"]["total"] == 1


async def test_a_change_knows_no_other_fields_and_then_changes_nothing(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = await make_robot(guarded, registry_id, "ci")
    path = f"/registries/{registry_id}/robots/{robot['id']}"
    answer = await call(guarded, "PATCH", path, {"name": "other", "actions": ["push"], "expires_at": 1})
    assert faults(answer) == {("name", "unknown_field"), ("actions", "incomplete"), ("expires_at", "wrong_type")}
    assert faults(await call(guarded, "PATCH", path, {"expires_at": "2026-01-01T00:00:00Z"})) == {
        ("expires_at", "in_the_past")
    }
    assert (await call(guarded, "GET", path)).json["data"]["actions"] == ALL


async def test_the_last_use_is_written_by_housekeeping_and_at_an_orderly_end(root: Path) -> None:
    async with served_app(root, epoch_seconds=3600) as client:
        admin = Registry(client, ADMIN)
        registry_id = await make_registry(admin, "a")
        robots = [await make_robot(admin, registry_id, name) for name in ("one", "two", "three")]

        async def seen() -> list[str | None]:
            rows = (await call(admin, "GET", f"/registries/{registry_id}/robots")).json["data"]
            return [row["last_used_at"] for row in rows]

        token = await bearer(admin, robots[1], "repository:a/api:pull")
        services = services_of(admin)
        await services.robots.flush(final=True)
        assert [use is not None for use in await seen()] == [False, False, True, False], "it drew a token"
        await services.core.db.write(lambda tx: tx.execute("UPDATE credentials SET last_used_at = NULL"))
        first = await seen()
        await login(admin, robots[0]).send("GET", "/v2/")
        await token.send("GET", "/v2/")
        await login(admin, {**robots[2], "password": "wrong"}).send("GET", "/v2/")
        assert await seen() == first, "no request waits for it"
        await Flushing(services.core, flush=[services.robots.flush]).run_once()
        assert [use is not None for use in await seen()] == [False, True, False, False], "once a minute"
        await services.robots.flush(final=True)
        assert [use is not None for use in await seen()] == [False, True, True, False]
        await login(admin, robots[2]).send("GET", "/v2/")
    async with served_app(root) as client:
        rows = (await call(Registry(client, ADMIN), "GET", f"/registries/{registry_id}/robots")).json["data"]
        assert rows[3]["last_used_at"] is not None


async def test_what_is_done_to_robots_stands_in_the_audit_log(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = await make_robot(guarded, registry_id, "ci")
    path = f"/registries/{registry_id}/robots/{robot['id']}"
    await call(guarded, "PATCH", path, {"actions": ["pull"]})
    await call(guarded, "POST", f"{path}/rotate", {"grace_seconds": 5})
    await call(guarded, "DELETE", path)
    rows = await services_of(guarded).core.db.fetch(
        "SELECT actor, action, registry, reference FROM audit WHERE action LIKE 'robot.%' ORDER BY id"
    )
    kinds = ("robot.create", "robot.update", "robot.rotate", "robot.delete")
    assert rows == [("admin", kind, "a", "robot$a+ci") for kind in kinds]
