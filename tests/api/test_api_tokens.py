"""Tokens of the management API: made, shown once, used under /v1, ended."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth

from regserver.auth import admin
from regserver.auth.api_tokens import ApiTokens
from regserver.auth.uses import WRITE_EVERY_MS
from regserver.content.flushing import Flushing
from regserver.model.access import Permit
from regserver.model.times import now_ms
from support.managing import call, faults, make_registry, refusal, services_of
from support.pushing import Answer, Registry, push_image
from support.registry import ADMIN, ADMIN_TOKEN, served_app

FAR = "2126-01-01T00:00:00Z"
NOT_THERE = "reg_" + "0" * 26


async def make_token(registry: Registry, *scopes: str, **fields: Any) -> dict[str, Any]:
    answer = await call(registry, "POST", "/tokens", {"name": "ci", "scopes": scopes, **fields})
    assert answer.status == 201, answer
    return dict(answer.json["data"])


async def held_by(registry: Registry, *scopes: str, **fields: Any) -> Registry:
    """The registry as the holder of a new token sees it."""
    return registry.seen_by(f"Bearer {(await make_token(registry, *scopes, **fields))['token']}")


async def last_use(registry: Registry, token: dict[str, Any]) -> str | None:
    answer = await call(registry, "GET", f"/tokens/{token['id']}")
    return answer.json["data"]["last_used_at"]  # type: ignore[no-any-return]


async def names(registry: Registry, query: dict[str, str] | None = None) -> list[str]:
    answer = await call(registry, "GET", "/registries", query=query)
    assert answer.json["meta"]["total"] == len(answer.json["data"])
    return [row["name"] for row in answer.json["data"]]


async def test_a_new_token_is_exactly_what_is_documented_and_shown_once(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    scopes = ["admin", "read", f"registry:{registry_id}"]
    answer = await call(guarded, "POST", "/tokens", {"name": "ci of a", "scopes": scopes, "expires_at": FAR})
    data = answer.json["data"]
    token = data.pop("token")
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/tokens/{data['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert admin.is_token(token)
    assert data["id"].startswith("tok_")
    assert data == {
        "id": data["id"],
        "name": "ci of a",
        "scopes": scopes,
        "expires_at": FAR,
        "last_used_at": None,
        "created_at": data["created_at"],
    }
    one, all_of_them = await call(guarded, "GET", f"/tokens/{data['id']}"), await call(guarded, "GET", "/tokens")
    assert one.json == {"data": data}
    assert all_of_them.json == {"data": [data], "meta": {"total": 1, "page": 1, "per_page": 20}}


async def test_the_list_is_paged_from_the_oldest(guarded: Registry) -> None:
    made = [(await make_token(guarded, "read"))["id"] for _ in range(3)]
    first, second = [await call(guarded, "GET", "/tokens", query={"per_page": "2", "page": page}) for page in "12"]
    assert [row["id"] for row in first.json["data"] + second.json["data"]] == made
    assert first.json["meta"] == {"total": 3, "page": 1, "per_page": 2}
    assert first.headers["Link"] == '</v1/tokens?per_page=2&page=2>; rel="next"'


async def test_only_the_digest_is_stored(guarded: Registry, root: Path) -> None:
    token = (await make_token(guarded, "read"))["token"]
    stored = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    stored += repr(await services_of(guarded).core.db.fetch("SELECT * FROM api_tokens")).encode()
    assert hashlib.sha256(token.encode()).hexdigest().encode() in stored
    assert token.encode() not in stored
    assert token.removeprefix("rsv_")[:32].encode() not in stored


async def test_an_admin_token_does_everything_and_makes_others(guarded: Registry) -> None:
    holder = await held_by(guarded, "admin")
    registry_id = await make_registry(holder, "a")
    assert (await call(holder, "GET", f"/registries/{registry_id}/credentials")).status == 200
    again = await held_by(holder, "admin")
    assert (await call(again, "DELETE", f"/registries/{registry_id}")).status == 204


async def test_a_read_token_sees_every_registry_and_no_secret(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    holder = await held_by(guarded, "read")
    assert await names(holder) == ["a"]
    assert (await call(holder, "GET", f"/registries/{registry_id}/images")).status == 200
    for method, path in (
        ("GET", f"/registries/{registry_id}/credentials"),
        ("DELETE", f"/registries/{registry_id}"),
        ("GET", "/tokens"),
    ):
        assert refusal(await call(holder, method, path)) == (403, "denied"), path


async def test_a_registry_s_token_manages_that_registry_alone(guarded: Registry) -> None:
    ids = {name: await make_registry(guarded, name) for name in ("a", "b")}
    holder = await held_by(guarded, f"registry:{ids['a']}")
    assert (await call(holder, "PATCH", f"/registries/{ids['a']}", {"public": True})).status == 200
    assert (await call(holder, "POST", f"/registries/{ids['a']}/rotate-credentials")).status == 200
    for registry_id in (ids["b"], NOT_THERE, "b"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/credentials"), ("POST", "/gc")):
            answer = await call(holder, method, f"/registries/{registry_id}{path}")
            assert refusal(answer) == (404, "not_found"), (method, path)
    assert refusal(await call(holder, "POST", "/registries", {"name": "c"})) == (403, "denied")
    assert refusal(await call(holder, "POST", "/tokens", {"name": "c", "scopes": ["admin"]})) == (403, "denied")
    assert (await call(holder, "DELETE", f"/registries/{ids['a']}")).status == 204


async def test_lists_hold_what_the_token_names(guarded: Registry) -> None:
    ids = {name: await make_registry(guarded, name) for name in ("a", "b", "c")}
    holder = await held_by(guarded, f"registry:{ids['a']}", f"registry:{ids['c']}")
    assert await names(holder) == ["a", "c"]
    assert await names(holder, {"sort": "-name", "q": "c"}) == ["c"]
    assert await names(holder, {"name": "b"}) == []
    assert await names(await held_by(guarded, "read", f"registry:{ids['a']}")) == ["a", "b", "c"]


async def test_scopes_add_up(guarded: Registry) -> None:
    ids = {name: await make_registry(guarded, name) for name in ("a", "b")}
    holder = await held_by(guarded, "read", f"registry:{ids['a']}")
    assert (await call(holder, "GET", f"/registries/{ids['a']}/credentials")).status == 200
    assert (await call(holder, "GET", f"/registries/{ids['b']}")).status == 200
    assert (await call(holder, "GET", f"/registries/{ids['b']}/credentials")).status == 403


async def test_a_later_registry_of_the_same_name_is_not_the_token_s(guarded: Registry) -> None:
    earlier = await make_registry(guarded, "a")
    holder = await held_by(guarded, f"registry:{earlier}")
    assert (await call(holder, "DELETE", f"/registries/{earlier}")).status == 204
    later = await make_registry(guarded, "a")
    assert [(await call(holder, "GET", f"/registries/{identity}")).status for identity in (earlier, later)] == [404] * 2
    assert await names(holder) == []


@pytest.mark.parametrize("scope", ["admin", "read"])
async def test_a_token_is_nothing_outside_of_the_management_api(guarded: Registry, scope: str) -> None:
    await make_registry(guarded, "a", public=True)
    await push_image(guarded, "a/b", "v1")
    token = (await make_token(guarded, scope))["token"]
    for path in ("/v2/", "/v2/_catalog", "/v2/a/b/manifests/v1", "/token"):
        assert (await guarded.seen_by(f"Bearer {token}").send("GET", path)).status == 401, path


async def test_a_token_is_no_password(guarded: Registry) -> None:
    token = (await make_token(guarded, "admin"))["token"]
    for username in ("admin", "ci", ""):
        holder = guarded.seen_by(encode_basic_auth(username, token))
        assert refusal(await call(holder, "GET", "/registries")) == (401, "unauthorized")


async def test_a_deleted_token_is_dead_at_once(guarded: Registry) -> None:
    token = await make_token(guarded, "admin")
    holder = guarded.seen_by(f"Bearer {token['token']}")
    assert (await call(holder, "DELETE", f"/tokens/{token['id']}")).status == 204
    refused = await call(holder, "GET", "/registries")
    assert refusal(refused) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    for method in ("GET", "DELETE"):
        assert refusal(await call(guarded, method, f"/tokens/{token['id']}")) == (404, "not_found")


async def test_a_token_is_deleted_as_it_was_seen(guarded: Registry) -> None:
    token = await make_token(guarded, "read")
    path = f"/tokens/{token['id']}"
    seen = (await call(guarded, "GET", path)).headers["ETag"]
    stale = await call(guarded, "DELETE", path, headers={"If-Match": '"1"'})
    assert refusal(stale) == (412, "precondition_failed")
    assert (await call(guarded, "DELETE", path, headers={"If-Match": seen})).status == 204


@pytest.mark.parametrize("identity", ["tok_" + "0" * 26, "reg_" + "0" * 26, "tok_", "x", "tok_%00"])
async def test_what_is_no_token_is_not_found(guarded: Registry, identity: str) -> None:
    assert refusal(await call(guarded, "GET", f"/tokens/{identity}")) == (404, "not_found")


async def test_a_token_outlives_a_restart(root: Path) -> None:
    async with served_app(root) as client:
        token = await make_token(Registry(client, ADMIN), "read")
    async with served_app(root) as client:
        assert await names(Registry(client, f"Bearer {token['token']}")) == []


async def test_a_token_ends_when_it_says(root: Path) -> None:
    async with served_app(root) as client:
        core, now = services_of(Registry(client)).core, [1000]
        tokens = ApiTokens(core, lambda: now[0])
        row, token = await tokens.create("brief", Permit(read=True), 2000)
        now[0] = 1999
        assert await tokens.authenticate(token) == row
        now[0] = 2000
        assert await tokens.authenticate(token) is None


async def test_an_expired_token_is_refused_like_one_that_never_was(guarded: Registry) -> None:
    _, expired = await services_of(guarded).api_tokens.create("x", Permit(admin=True), now_ms() - 1)
    answers = [
        await call(guarded.seen_by(f"Bearer {token}"), "GET", "/registries") for token in (expired, admin.new_token())
    ]
    assert told(answers[0]) == told(answers[1])
    assert answers[0].status == 401


def told(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["WWW-Authenticate"], answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({}, {("name", "required"), ("scopes", "required")}),
        ({"name": "", "scopes": []}, {("name", "invalid_length"), ("scopes", "invalid_length")}),
        ({"name": "x" * 101, "scopes": "admin"}, {("name", "invalid_length"), ("scopes", "wrong_type")}),
        ({"name": "a\nb", "scopes": [1]}, {("name", "invalid_format"), ("scopes.0", "wrong_type")}),
        ({"name": "\ud800", "scopes": ["read"]}, {("name", "invalid_format")}),
        ({"name": 1, "scopes": ["read"] * 101}, {("name", "wrong_type"), ("scopes", "invalid_length")}),
        (
            {"name": "x", "scopes": ["read", "root", "registry:", "registry:a", "Admin"]},
            {(f"scopes.{number}", "unknown_value") for number in range(1, 5)},
        ),
        ({"name": "x", "scopes": ["read", f"registry:{NOT_THERE}"]}, {("scopes.1", "not_found")}),
        ({"name": "x", "scopes": ["read"], "expires_at": 1}, {("expires_at", "wrong_type")}),
        ({"name": "x", "scopes": ["read"], "expires_at": "2026-01-01T00:00:00Z"}, {("expires_at", "in_the_past")}),
        ({"name": "x", "scopes": ["read"], "token": "rsv_mine"}, {("token", "unknown_field")}),
    ],
)
async def test_what_makes_no_token_is_said_field_by_field(
    guarded: Registry, document: dict[str, Any], wrong: set[tuple[str, str]]
) -> None:
    assert faults(await call(guarded, "POST", "/tokens", document)) == wrong
    assert (await call(guarded, "GET", "/tokens")).json["meta"]["total"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "never",
        "2126-01-01",
        "2126-01-01T00:00:00",
        "2126-02-30T00:00:00Z",
        "2126-01-01 00:00:00Z",
        "0001-01-01T00:00:00+14:00",
    ],
)
async def test_an_expiry_is_a_time_with_its_zone(guarded: Registry, text: str) -> None:
    answer = await call(guarded, "POST", "/tokens", {"name": "x", "scopes": ["read"], "expires_at": text})
    assert faults(answer) == {("expires_at", "invalid_format")}


@pytest.mark.parametrize("text", ["2126-01-01T02:00:00+02:00", "2125-12-31t23:00:00.000-01:00", FAR])
async def test_an_expiry_may_stand_in_any_zone(guarded: Registry, text: str) -> None:
    assert (await make_token(guarded, "read", expires_at=text))["expires_at"] == FAR


async def test_no_expiry_is_never(guarded: Registry) -> None:
    assert (await make_token(guarded, "read", expires_at=None))["expires_at"] is None
    assert (await make_token(guarded, "read"))["expires_at"] is None


async def test_the_last_use_is_written_by_housekeeping_and_not_by_the_request(guarded: Registry) -> None:
    core = services_of(guarded).core
    tokens = ApiTokens(core, lambda: 86_400_000)
    row, token = await tokens.create("x", Permit(read=True), None)
    await tokens.authenticate(token)
    assert (await tokens.get(row.id)).last_used_at is None
    await Flushing(core, flush=[tokens.flush]).run_once()
    answer = await call(guarded, "GET", f"/tokens/{row.id}")
    assert answer.json["data"]["last_used_at"] == "1970-01-02T00:00:00Z"


async def test_the_last_use_before_an_orderly_end_is_kept(root: Path) -> None:
    async with served_app(root, epoch_seconds=3600) as client:
        token = await make_token(Registry(client, ADMIN), "read")
        await names(Registry(client, f"Bearer {token['token']}"))
    async with served_app(root) as client:
        assert await last_use(Registry(client, ADMIN), token) is not None


async def test_the_last_use_of_a_token_is_written_once_a_minute(guarded: Registry) -> None:
    start = 10 * WRITE_EVERY_MS
    core, now = services_of(guarded).core, [start]
    tokens = ApiTokens(core, lambda: now[0])
    row, token = await tokens.create("x", Permit(read=True), None)
    seen = []
    for passed in (0, 1, WRITE_EVERY_MS - 1):
        now[0] = start + passed
        await tokens.authenticate(token)
        await tokens.flush()
        seen.append((await tokens.get(row.id)).last_used_at)
    now[0] = start + WRITE_EVERY_MS
    await tokens.flush()
    seen.append((await tokens.get(row.id)).last_used_at)
    assert seen == [start, start, start, start + WRITE_EVERY_MS - 1]


async def test_the_administrator_s_own_token_is_no_api_token(guarded: Registry) -> None:
    holder = guarded.seen_by(f"Bearer {ADMIN_TOKEN}")
    assert (await call(holder, "GET", "/tokens")).json["meta"]["total"] == 0
