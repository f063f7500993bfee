"""The registry's robot over /v1: shown, used, rotated."""

import base64
import json
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from regserver.model.times import now_ms
from support.managing import JSON, call, faults, make_registry
from support.pushing import Registry, push_image
from support.registry import ADMIN, served_app


async def credentials(registry: Registry, identity: str) -> dict[str, str]:
    answer = await call(registry, "GET", f"/registries/{identity}/credentials")
    assert answer.status == 200, answer
    return {name: answer.json["data"][name] for name in ("username", "password")}


async def test_credentials_are_exactly_what_is_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    answer = await call(guarded, "GET", f"/registries/{identity}/credentials")
    data = answer.json["data"]
    host = f"{guarded.client.host}:{guarded.client.port}"
    auth = base64.b64encode(f"robot$my-images:{data['password']}".encode()).decode()
    assert answer.status == 200
    assert answer.json == {
        "data": {
            "username": "robot$my-images",
            "password": data["password"],
            "endpoint": host,
            "docker_config": {"auths": {host: {"auth": auth}}},
        }
    }
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_password_is_a_signed_token_and_the_same_on_every_call(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    first, second = await credentials(guarded, identity), await credentials(guarded, identity)
    header = first["password"].split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "RS256", "typ": "JWT"}
    assert first == second


async def test_the_docker_config_logs_in(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    answer = await call(guarded, "GET", f"/registries/{identity}/credentials")
    config = answer.json["data"]["docker_config"]["auths"][answer.json["data"]["endpoint"]]
    robot = guarded.seen_by(f"Basic {config['auth']}")
    await push_image(robot, "my-images/api", "v1")
    assert (await robot.send("GET", "/v2/my-images/api/manifests/v1")).status == 200


async def test_the_password_outlives_a_restart(root: Path) -> None:
    async with served_app(root) as client:
        identity = await make_registry(Registry(client, ADMIN), "a")
        before = await credentials(Registry(client, ADMIN), identity)
    async with served_app(root) as client:
        assert await credentials(Registry(client, ADMIN), identity) == before


@pytest.mark.parametrize("document", [None, {}])
async def test_rotation_answers_exactly_what_is_documented(guarded: Registry, document: object) -> None:
    identity = await make_registry(guarded, "my-images")
    before = await credentials(guarded, identity)
    answer = await call(guarded, "POST", f"/registries/{identity}/rotate-credentials", document)
    assert answer.status == 200
    after = await credentials(guarded, identity)
    assert answer.json == {"data": after}
    assert (after["username"], after["password"] != before["password"]) == ("robot$my-images", True)
    assert answer.headers["Cache-Control"] == "no-store"


async def test_rotation_cuts_the_old_password_and_its_tokens_at_once(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    old = guarded.seen_by(encode_basic_auth(*(await credentials(guarded, identity)).values()))
    await push_image(old, "a/b", "v1")
    drawn = (await old.send("GET", "/token?service=x&scope=repository:a/b:pull")).json["token"]
    bearer = guarded.seen_by(f"Bearer {drawn}")
    before = [(await one.send("GET", "/v2/a/b/manifests/v1")).status for one in (old, bearer)]
    rotated = (await call(guarded, "POST", f"/registries/{identity}/rotate-credentials")).json["data"]
    after = [(await one.send("GET", "/v2/a/b/manifests/v1")).status for one in (old, bearer)]
    new = guarded.seen_by(encode_basic_auth(rotated["username"], rotated["password"]))
    assert (before, after) == ([200, 200], [401, 401])
    assert (await new.send("GET", "/v2/a/b/manifests/v1")).status == 200


async def test_with_grace_both_passwords_and_their_tokens_work_until_it_ends(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await make_registry(guarded, "a")
    await push_image(guarded, "a/b", "v1")
    path, comers = f"/registries/{identity}/rotate-credentials", []

    async def arrive(login: dict[str, str]) -> None:
        basic = guarded.seen_by(encode_basic_auth(login["username"], login["password"]))
        drawn = (await basic.send("GET", "/token?service=x&scope=repository:a/b:pull")).json["token"]
        comers.append((basic, guarded.seen_by(f"Bearer {drawn}")))

    async def seen() -> list[list[int]]:
        return [[(await one.send("GET", "/v2/a/b/manifests/v1")).status for one in pair] for pair in comers]

    await arrive(await credentials(guarded, identity))
    rotated = (await call(guarded, "POST", path, {"grace_seconds": 3600})).json["data"]
    assert set(rotated) == {"username", "password", "previous_valid_until"}
    await arrive(rotated)
    assert await seen() == [[200, 200], [200, 200]]
    monkeypatch.setattr("regserver.auth.robots.now_ms", lambda: now_ms() + 3_600_001)
    assert await seen() == [[401, 401], [200, 200]]
    monkeypatch.undo()
    again = (await call(guarded, "POST", path, {"grace_seconds": 60})).json["data"]
    await arrive(again)
    assert await seen() == [[401, 401], [200, 200], [200, 200]], "a second rotation ends the first one's grace"
    await call(guarded, "POST", path, {"grace_seconds": 0})
    assert await seen() == [[401, 401]] * 3


@pytest.mark.parametrize(
    ("grace", "code"), [(-1, "out_of_range"), (86401, "out_of_range"), ("60", "wrong_type"), (True, "wrong_type")]
)
async def test_grace_is_a_whole_number_of_seconds_up_to_a_day(guarded: Registry, grace: object, code: str) -> None:
    identity = await make_registry(guarded, "a")
    before = await credentials(guarded, identity)
    answer = await call(guarded, "POST", f"/registries/{identity}/rotate-credentials", {"grace_seconds": grace})
    assert faults(answer) == {("grace_seconds", code)}
    assert await credentials(guarded, identity) == before


async def test_rotation_takes_no_field_that_it_does_not_know_and_then_rotates_nothing(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    before = await credentials(guarded, identity)
    answer = await call(guarded, "POST", f"/registries/{identity}/rotate-credentials", {"colour": 1})
    assert faults(answer) == {("colour", "unknown_field")}
    assert await credentials(guarded, identity) == before


@pytest.mark.parametrize("credentials_of", ["nobody", "robot"])
async def test_the_management_api_is_the_administrators(guarded: Registry, credentials_of: str) -> None:
    robot = await guarded.make_robot("a")
    identity = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    stranger = guarded.seen_by(robot if credentials_of == "robot" else None)
    expected = 403 if credentials_of == "robot" else 401
    for method, path in (
        ("GET", "/registries"),
        ("POST", "/registries"),
        ("GET", f"/registries/{identity}/credentials"),
        ("POST", f"/registries/{identity}/rotate-credentials"),
        ("DELETE", f"/registries/{identity}"),
    ):
        answer = await stranger.send(method, f"/v1{path}", headers=JSON)
        assert answer.status == expected, (method, path, answer)
    assert (await call(guarded, "GET", f"/registries/{identity}")).status == 200
