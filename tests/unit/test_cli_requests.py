"""What robots, policies and the audit log's commands ask of the API: the requests themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.scripted import Scripted, scripted
from support.shell import Shell

ID = "reg_" + "0" * 26
HERE = f"/v1/registries/{ID}"
POLICY: dict[str, Any] = {
    "immutable_tags": {"patterns": ["v*"], "except": ["latest"]},
    "retention": {"keep_last": 10, "keep_days": None, "keep_tags": []},
    "keep_untagged": False,
}
REGISTRY = {"id": ID, "name": "mine", "policy": POLICY}
ROBOT = {
    "id": "rob_1",
    "name": "ci",
    "username": "robot$mine+ci",
    "actions": ["pull"],
    "images": None,
    "expires_at": None,
    "last_used_at": None,
    "created_at": "2026-01-31T10:00:00Z",
}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


@pytest.fixture
def shell(server: Scripted, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server.url)


def page(*rows: object) -> object:
    return {"data": list(rows), "meta": {"total": len(rows), "page": 1, "per_page": 100}}


async def test_a_robot_is_made_with_what_it_may(server: Scripted, shell: Shell) -> None:
    server.answer(200, {"data": REGISTRY})
    server.answer(201, {"data": {**ROBOT, "password": "secret"}})
    rights = ("--actions", "pull,push", "--images", "team/*,web", "--expires", "2027-01-31T00:00:00Z")
    ended = await shell.succeed("robots", "create", ID, "ci", *rights)
    assert "robot$mine+ci" in ended.out
    assert "secret" in ended.out
    assert server.asked[-1][:2] == ("POST", f"{HERE}/robots")
    assert server.sent == [
        {
            "name": "ci",
            "actions": ["pull", "push"],
            "images": ["team/*", "web"],
            "expires_at": "2027-01-31T00:00:00Z",
        }
    ]


@pytest.mark.parametrize("robot", ["ci", "rob_1", "robot$mine+ci"])
async def test_a_robot_is_meant_by_name_username_or_id(server: Scripted, shell: Shell, robot: str) -> None:
    server.answer(200, {"data": REGISTRY})
    server.answer(200, page({**ROBOT, "id": "rob_0", "name": None, "username": "robot$mine"}, ROBOT))
    server.answer(200, {"data": ROBOT})
    assert (await shell.succeed("robots", "show", ID, robot, "--json")).json == ROBOT
    assert server.asked[-1][:2] == ("GET", f"{HERE}/robots/rob_1")


async def test_a_robot_that_is_not_there_ends_with_3(server: Scripted, shell: Shell) -> None:
    server.answer(200, {"data": REGISTRY})
    server.answer(200, page(ROBOT))
    ended = await shell.run("robots", "delete", ID, "other", "--yes")
    assert (ended.code, "robots list" in ended.err) == (3, True)


async def test_a_robot_changes_rotates_and_goes(server: Scripted, shell: Shell) -> None:
    for arguments, method, path, sent in (
        (("update", ID, "ci", "--all-images", "--expires", "never"), "PATCH", "", {"images": None, "expires_at": None}),
        (("rotate", ID, "ci", "--grace", "1h"), "POST", "/rotate", {"grace_seconds": 3600}),
        (("delete", ID, "ci", "--yes"), "DELETE", "", None),
    ):
        server.replies, server.sent, server.asked = [], [], []
        server.answer(200, {"data": REGISTRY})
        server.answer(200, page(ROBOT))
        server.answer(200, {"data": ROBOT})
        await shell.succeed("robots", *arguments)
        assert server.asked[-1][:2] == (method, f"{HERE}/robots/rob_1{path}")
        assert server.sent == ([] if sent is None else [sent])


@pytest.mark.parametrize("command", ["rotate", "delete"])
async def test_what_locks_a_robot_out_wants_yes(server: Scripted, shell: Shell, command: str) -> None:
    server.answer(200, {"data": REGISTRY})
    server.answer(200, page(ROBOT))
    ended = await shell.run("robots", command, ID, "ci")
    assert (ended.code, "robot$mine+ci" in ended.err) == (2, True)
    assert {method for method, _, _ in server.asked} == {"GET"}


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (["--keep-last", "5"], {"retention": {"keep_last": 5, "keep_days": None, "keep_tags": []}}),
        (["--keep-days", "3"], {"retention": {"keep_last": 10, "keep_days": 3, "keep_tags": []}}),
        (["--keep-tags", "v*,x"], {"retention": {"keep_last": 10, "keep_days": None, "keep_tags": ["v*", "x"]}}),
        (["--immutable", "r*,v*"], {"immutable_tags": {"patterns": ["r*", "v*"], "except": ["latest"]}}),
        (["--except", ""], {"immutable_tags": {"patterns": ["v*"], "except": []}}),
        (["--no-immutable", "--no-retention"], {"immutable_tags": None, "retention": None}),
        (["--no-retention", "--keep-untagged"], {"retention": None, "keep_untagged": True}),
        (["--keep-untagged"], {"keep_untagged": True}),
    ],
    ids=" ".join,
)
async def test_a_policy_keeps_what_is_not_named(
    server: Scripted, shell: Shell, options: list[str], changes: dict[str, Any]
) -> None:
    server.answer(200, {"data": REGISTRY})
    server.answer(200, {"data": REGISTRY}, ETag='"7"')
    server.answer(200, {"data": {}})
    server.answer(200, {"data": REGISTRY})
    await shell.succeed("registries", "policy", "set", ID, *options)
    assert [method for method, _, _ in server.asked] == ["GET", "GET", "PATCH", "GET"]
    assert server.sent == [{"policy": {**POLICY, **changes}}]


async def test_a_policy_is_tried_without_being_set(server: Scripted, shell: Shell) -> None:
    row = {"image": "api", "tag": "v1", "digest": "sha256:" + "0" * 64, "reason": "older", "action": "delete"}
    kept = {**row, "tag": "v2", "action": "keep"}
    for body in ({"data": REGISTRY}, {"data": REGISTRY}, page(row, kept)):
        server.answer(200, body)
    ended = await shell.succeed("registries", "policy", "dry-run", ID, "--keep-last", "1")
    assert server.asked[-1][0] == "POST"
    assert server.asked[-1][1].startswith(f"{HERE}/retention/dry-run")
    assert "1 of 2 tags would go" in ended.err
    assert len(ended.out.splitlines()) == 3


async def test_the_audit_log_is_asked_with_its_filters(server: Scripted, shell: Shell) -> None:
    event = {"id": "evt_1", "at": "2026-01-31T10:00:00Z", "actor": "admin", "action": "tag.push", "result": "ok"}
    server.answer(200, page(event))
    filters = ("--registry", "mine", "--actor", "robot$mine", "--action", "tag.push", "--since", "2026-01-31T00:00:00Z")
    ended = await shell.succeed("audit", "list", *filters, "--search", "v1", "--json")
    assert ended.json == [event]
    assert server.asked[-1][1] == (
        "/v1/audit?registry=mine&actor=robot%24mine&action=tag.push&since=2026-01-31T00%3A00%3A00Z&q=v1&per_page=100"
    )
