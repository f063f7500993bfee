"""What policies and the audit log's commands ask of the API: the requests themselves."""

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


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


@pytest.fixture
def shell(server: Scripted, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server.url)


def page(*rows: object) -> object:
    return {"data": list(rows), "meta": {"total": len(rows), "page": 1, "per_page": 100}}


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
