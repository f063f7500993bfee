"""/v1/registries: changing and deleting one, its quota, and changes held to what was seen."""

from pathlib import Path

import pytest

from regserver.config import GIB
from support.managing import call, faults, make_registry, refusal
from support.pushing import Registry, push_blob, push_image, start_upload
from support.registry import served_app

# -- update


async def test_update_answers_exactly_what_is_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    answer = await call(guarded, "PATCH", f"/registries/{identity}", {"public": True})
    assert (answer.status, answer.json) == (200, {"data": {"id": identity, "name": "my-images", "public": True}})
    assert (await call(guarded, "GET", f"/registries/{identity}")).json["data"]["public"] is True


async def test_update_changes_what_anonymous_callers_may_pull(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/api", "v1")
    anybody = guarded.seen_by(None)
    before = (await anybody.send("GET", "/v2/my/api/manifests/v1")).status
    await call(guarded, "PATCH", f"/registries/{identity}", {"public": True})
    challenge = await anybody.send("GET", "/token?service=x&scope=repository:my/api:pull")
    token = challenge.json["token"]
    after = await guarded.seen_by(f"Bearer {token}").send("GET", "/v2/my/api/manifests/v1")
    assert (before, after.status) == (401, 200)


async def test_update_leaves_what_it_does_not_name(registry: Registry) -> None:
    identity = await make_registry(registry, "a", public=True, quota={"storage_gb": 2})
    await call(registry, "PATCH", f"/registries/{identity}", {})
    untouched = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    await call(registry, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": 3}})
    data = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    assert (untouched["public"], untouched["quota"]["storage_gb"]) == (True, 2)
    assert (data["public"], data["quota"]["storage_gb"]) == (True, 3)


UNFIT_CHANGES = (
    ({"public": None}, {("public", "wrong_type")}),
    ({"name": "b"}, {("name", "unknown_field")}),
    ({"quota": 5}, {("quota", "wrong_type")}),
    ({"quota": {}}, {("quota.storage_gb", "required")}),
    ({"quota": {"storage_gb": True}}, {("quota.storage_gb", "wrong_type")}),
    ({"quota": {"storage_gb": "5"}}, {("quota.storage_gb", "wrong_type")}),
    ({"quota": {"storage_gb": 1e300}}, {("quota.storage_gb", "out_of_range")}),
    ({"quota": {"storage_gb": 10**400}}, {("quota.storage_gb", "out_of_range")}),
)


async def test_update_refuses_what_a_registry_cannot_be(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    before = (await call(registry, "GET", f"/registries/{identity}")).json
    for document, expected in UNFIT_CHANGES:
        assert faults(await call(registry, "PATCH", f"/registries/{identity}", document)) == expected
    assert (await call(registry, "GET", f"/registries/{identity}")).json == before


# -- quota


async def test_a_quota_is_shown_as_it_was_set(registry: Registry) -> None:
    identity, limits, shown = await make_registry(registry, "a"), (0, 1, 0.5, 0.1, 1e-9, 12.345678901, 10**9), []
    for limit in limits:
        await call(registry, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": limit}})
        answer = await call(registry, "GET", f"/registries/{identity}")
        shown.append(answer.json["data"]["quota"]["storage_gb"])
    assert shown == list(limits)


async def test_a_quota_of_null_is_the_servers_default(root: Path) -> None:
    async with served_app(root, dev=True, default_quota_bytes=7 * GIB) as client:
        registry = Registry(client)
        identity = await make_registry(registry, "a", quota={"storage_gb": 1})
        shown = []
        for quota in ({"storage_gb": None}, {"storage_gb": 2}, None):
            await call(registry, "PATCH", f"/registries/{identity}", {"quota": quota})
            answer = await call(registry, "GET", f"/registries/{identity}")
            shown.append(answer.json["data"]["quota"]["storage_gb"])
    assert shown == [7, 2, 7]


async def test_without_any_limit_the_quota_is_null(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    quota = (await call(registry, "GET", f"/registries/{identity}")).json["data"]["quota"]
    assert quota == {"storage_gb": None, "used_gb": 0}


async def test_used_gb_is_what_is_stored_in_gib(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    await push_blob(registry, "a/b", bytes(3 * 2**20))
    data = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    assert (data["quota"]["used_gb"], data["storage_bytes"]) == (0.003, 3 * 2**20)


async def test_a_quota_in_fractions_of_a_gib_holds(registry: Registry) -> None:
    await make_registry(registry, "a", quota={"storage_gb": 1024 / GIB})
    location = await start_upload(registry, "a/b")
    sent = await registry.send("PATCH", location, data=bytes(1025))
    assert sent.status == 403


# -- delete


async def test_delete_answers_204_and_nothing_finds_it_any_more(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    answer = await call(guarded, "DELETE", f"/registries/{identity}")
    assert (answer.status, answer.body) == (204, b"")
    assert refusal(await call(guarded, "GET", f"/registries/{identity}")) == (404, "not_found")
    assert refusal(await call(guarded, "DELETE", f"/registries/{identity}")) == (404, "not_found")
    assert (await call(guarded, "GET", "/registries")).json["meta"]["total"] == 0


@pytest.mark.parametrize("query", [{}, {"force": "false"}, {"force": "0"}])
async def test_delete_refuses_a_registry_that_holds_an_image(registry: Registry, query: dict[str, str]) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b", "v1")
    assert refusal(await call(registry, "DELETE", f"/registries/{identity}", query=query)) == (409, "not_empty")
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).status == 200


@pytest.mark.parametrize("force", ["true", "1"])
async def test_delete_with_force_takes_the_images_along(registry: Registry, force: str) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b", "v1")
    assert (await call(registry, "DELETE", f"/registries/{identity}", query={"force": force})).status == 204
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")


async def test_delete_does_not_count_untagged_rests_and_open_uploads_as_images(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b")
    await push_blob(registry, "a/c")
    await start_upload(registry, "a/d")
    assert (await call(registry, "DELETE", f"/registries/{identity}")).status == 204


@pytest.mark.parametrize("force", ["", "yes", "True", "2"])
async def test_delete_refuses_a_force_that_is_no_boolean_and_deletes_nothing(registry: Registry, force: str) -> None:
    identity = await make_registry(registry, "a")
    answer = await call(registry, "DELETE", f"/registries/{identity}", query={"force": force})
    assert faults(answer) == {("force", "wrong_type")}
    assert (await call(registry, "GET", f"/registries/{identity}")).status == 200


async def test_the_name_of_a_deleted_registry_is_free_at_once_and_its_robot_dead(guarded: Registry) -> None:
    robot = guarded.seen_by(await guarded.make_robot("a"))
    await push_image(robot, "a/b", "v1")
    old = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    await call(guarded, "DELETE", f"/registries/{old}", query={"force": "true"})
    new = await make_registry(guarded, "a")
    assert new != old
    assert (await robot.send("GET", "/v2/")).status == 401
    assert (await robot.send("GET", "/v2/a/b/manifests/v1")).status == 401
    assert (await guarded.send("GET", "/v2/a/b/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")


async def test_a_bearer_token_dies_with_its_registry(guarded: Registry) -> None:
    robot = guarded.seen_by(await guarded.make_robot("a"))
    await push_image(robot, "a/b", "v1")
    drawn = await robot.send("GET", "/token?service=x&scope=repository:a/b:pull,push")
    bearer = guarded.seen_by(f"Bearer {drawn.json['token']}")
    before = (await bearer.send("GET", "/v2/a/b/manifests/v1")).status
    identity = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    await call(guarded, "DELETE", f"/registries/{identity}", query={"force": "true"})
    await make_registry(guarded, "a")
    assert (before, (await bearer.send("GET", "/v2/a/b/manifests/v1")).status) == (200, 401)


# -- conditions


async def test_a_change_may_be_held_to_the_state_that_was_seen(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    seen = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    first = await call(registry, "PATCH", f"/registries/{identity}", {"public": True}, headers={"If-Match": seen})
    late = await call(registry, "PATCH", f"/registries/{identity}", {"public": False}, headers={"If-Match": seen})
    gone = await call(registry, "DELETE", f"/registries/{identity}", headers={"If-Match": seen})
    assert (first.status, refusal(late), refusal(gone)) == (
        200,
        (412, "precondition_failed"),
        (412, "precondition_failed"),
    )
    current = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    assert current == first.headers["ETag"] != seen
    assert (await call(registry, "DELETE", f"/registries/{identity}", headers={"If-Match": current})).status == 204


@pytest.mark.parametrize(("value", "status"), [("*", 200), ('W/"1"', 412), ('"1"', 412), ("1", 412), ('"1", "2"', 400)])
async def test_if_match_takes_one_strong_validator_or_any(registry: Registry, value: str, status: int) -> None:
    identity = await make_registry(registry, "a")
    answer = await call(registry, "PATCH", f"/registries/{identity}", {"public": True}, headers={"If-Match": value})
    assert answer.status == status


async def test_pushes_do_not_change_the_state_that_conditions_are_about(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    before = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    await push_image(registry, "a/b", "v1")
    assert (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"] == before
