"""The audit log: every change has its line, in the transaction of the change, and nothing secret is in it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth

from regserver.model.audit import Actor, AuditAction
from regserver.storage.catalog import audit
from support.managing import call, faults, make_registry, services_of
from support.pushing import Registry, push_image
from support.registry import ADMIN_TOKEN
from support.town import dump, founded, send

METHODS = ("POST", "PATCH", "PUT", "DELETE")  # in the order in which they are sent, so that what is deleted was used


async def events(asker: Registry, /, **query: str) -> list[dict[str, Any]]:
    answer = await call(asker, "GET", "/audit", query={"per_page": "100", **query})
    assert answer.status == 200, answer
    return list(answer.json["data"])


async def test_a_push_leaves_one_line_that_says_who_what_and_from_where(guarded: Registry) -> None:
    robot = guarded.seen_by(await guarded.make_robot("a"))
    pushed = await push_image(robot, "a/team/api", "v1")
    (line,) = await events(guarded, action="tag.push")
    assert line["id"].startswith("evt_")
    told = ("actor", "registry", "image", "reference", "digest", "address", "request_id", "result")
    assert [line[name] for name in told] == [
        "robot$a",
        "a",
        "team/api",
        "v1",
        pushed.digest,
        "127.0.0.1",
        pushed.answer.headers["X-Request-Id"],
        "ok",
    ]


def is_told(method: str, path: str) -> bool:
    """What the log tells of: changes under /v1, and manifests. Blobs are told by the manifests that use them."""
    told = path.startswith("/v1") or "/manifests/" in path
    return told and method in METHODS and not path.endswith("dry-run")


async def test_every_request_that_changes_something_leaves_a_line(root: Path) -> None:
    async with founded(root) as town:
        comer, router = town.comers["administrator"], town.nobody.client.app.router  # type: ignore[union-attr]
        routes = [(route.method, route.resource.canonical) for route in router.routes() if route.resource]
        chosen = [route for route in routes if is_told(*route)]
        chosen.sort(key=lambda route: (METHODS.index(route[0]), route[1].endswith("{registry_id}"), -len(route[1])))
        silent, changing = [], 0
        for route in chosen:
            before = await dump(town)
            answer = await send(town, comer, route, town.words)
            after = await dump(town)
            if changed := [table for table in after if after[table] != before[table]]:
                changing += 1
                if answer.headers["X-Request-Id"] not in {row[12] for row in after["audit"]}:
                    silent.append((route, answer.status, changed))
        assert silent == []
        assert changing >= 12


async def test_what_is_refused_leaves_no_line_of_a_change(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    before = await events(guarded)
    assert (await call(guarded, "POST", "/registries", {"name": "a"})).status == 409
    broken = json.dumps({"schemaVersion": 2}).encode()
    assert (await guarded.send("PUT", "/v2/a/x/manifests/v1", data=broken)).status >= 400
    assert await events(guarded) == before


async def test_no_secret_is_in_the_log(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    password = (await call(guarded, "GET", f"/registries/{registry_id}/credentials")).json["data"]["password"]
    rotated = (await call(guarded, "POST", f"/registries/{registry_id}/rotate-credentials")).json["data"]["password"]
    robot = (await call(guarded, "POST", f"/registries/{registry_id}/robots", {"name": "ci"})).json["data"]["password"]
    token = (await call(guarded, "POST", "/tokens", {"name": "t", "scopes": ["read"]})).json["data"]["token"]
    for login in (("robot$a", "hunter2-hunter2"), ("my-real-password", "x")):
        assert (await guarded.seen_by(encode_basic_auth(*login)).send("GET", "/token")).status == 401
    found = await events(guarded)
    actions = {"credentials.read", "credentials.rotate", "robot.create", "token.create", "login.failed"}
    assert actions <= {line["action"] for line in found}
    secrets = (password, rotated, robot, token, ADMIN_TOKEN, "hunter2", "my-real-password")
    assert [secret for secret in secrets if secret in json.dumps(found)] == []


async def test_a_next_page_continues_after_what_was_shown_whatever_is_done_meanwhile(guarded: Registry) -> None:
    for name in "abcde":
        await make_registry(guarded, name)
    path, seen = "/v1/audit?per_page=2&action=registry.create", []
    while path:
        answer = await guarded.send("GET", path)
        seen += [line["registry"] for line in answer.json["data"]]
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        if len(seen) == 2:
            await make_registry(guarded, "late")
    assert seen == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"registry": "one"}, {"one"}),
        ({"registry": "<id>"}, {"one"}),
        ({"actor": "nobody"}, set()),
        ({"actor": "admin"}, {"one", "two"}),
        ({"action": "registry.delete"}, set()),
        ({"until": "2000-01-01T00:00:00Z"}, set()),
        ({"since": "2000-01-01T00:00:00Z"}, {"one", "two"}),
        ({"q": "TWO"}, {"two"}),
        ({"q": "%"}, set()),
    ],
)
async def test_a_filter_shows_what_it_names(guarded: Registry, query: dict[str, str], shown: set[str]) -> None:
    one = await make_registry(guarded, "one")
    await make_registry(guarded, "two")
    asked = {name: one if value == "<id>" else value for name, value in query.items()}
    assert {line["registry"] for line in await events(guarded, **asked)} == shown


async def test_a_text_is_looked_for_in_so_many_lines_and_the_link_leads_on(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SOUGHT", 3)
    for name in ("needle", *"abcdefg"):
        await make_registry(guarded, name)
    path, seen, empty = "/v1/audit?q=needle", [], 0
    while path:
        answer = await guarded.send("GET", path)
        seen += [line["registry"] for line in answer.json["data"]]
        empty += not answer.json["data"]
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert (seen, empty) == (["needle"], 2)
    assert [line["registry"] for line in await events(guarded, q="needle", registry="needle")] == ["needle"]


async def test_every_fault_of_a_filter_is_named_at_once(guarded: Registry) -> None:
    bad = await call(guarded, "GET", "/audit", query={"action": "x", "since": "y", "before": "z"})
    assert {field for field, _ in faults(bad)} == {"action", "since", "before"}


async def test_a_registrys_token_sees_its_own_lines_alone(guarded: Registry) -> None:
    one, _ = await make_registry(guarded, "one"), await make_registry(guarded, "two")
    created = await call(guarded, "POST", "/tokens", {"name": "t", "scopes": [f"registry:{one}"]})
    holder = guarded.seen_by(f"Bearer {created.json['data']['token']}")
    assert {line["registry"] for line in await events(holder)} == {"one"}


async def test_the_lines_of_a_deleted_registry_stay(guarded: Registry) -> None:
    one = await make_registry(guarded, "one")
    assert (await call(guarded, "DELETE", f"/registries/{one}")).status == 204
    assert [line["action"] for line in await events(guarded, registry="one")] == ["registry.delete", "registry.create"]


async def test_what_comes_from_outside_is_on_one_line_and_cut(guarded: Registry) -> None:
    db, actor = services_of(guarded).core.db, Actor("a\n\x1b[31m", "b" * 999)
    await db.write(partial(audit.record, actor=actor, action=AuditAction.TOKEN_CREATE, detail="\ud800" * 300))
    (line,) = await events(guarded)
    assert (line["actor"], len(line["address"]), len(line["detail"])) == ("a\\n\\x1b[31m", 255, 255)


@pytest.mark.parametrize(
    "chosen",
    [{"registry": "one"}, {"registry": "<id>"}, {"actor": "admin"}, {"action": "registry.update"}, {}],
    ids=["registry", "registry's id", "actor", "action", "all"],
)
async def test_the_total_is_the_same_on_every_page_and_however_it_is_counted(
    guarded: Registry, chosen: dict[str, str]
) -> None:
    one, other = [await make_registry(guarded, name) for name in ("one", "other")]
    for number in range(1, 4):
        await call(guarded, "PATCH", f"/registries/{one}", {"quota": {"storage_gb": number}})
    await call(guarded, "PATCH", f"/registries/{other}", {"public": True})
    chosen = {name: one if value == "<id>" else value for name, value in chosen.items()}
    wanted = len(await events(guarded, **chosen))
    assert wanted >= 4
    ways = [{"per_page": "1"}, {"per_page": "1", "page": str(wanted)}, {"per_page": "1", "page": "99"}]
    ways += [{"per_page": "2", "q": "127.0.0.1"}, {"since": "2000-01-01T00:00:00Z"}]
    for way in ways:
        answer = await call(guarded, "GET", "/audit", query={**chosen, **way})
        assert answer.json["meta"]["total"] == wanted, way
