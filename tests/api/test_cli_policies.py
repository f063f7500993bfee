"""``regserver registries policy`` and ``audit``, at a real server."""

from pathlib import Path

import pytest

from support.managing import call, make_registry
from support.pushing import Registry, push_image
from support.shell import Shell, shell_for

NO_POLICY = {"immutable_tags": None, "retention": None, "keep_untagged": False}


@pytest.fixture
def shell(guarded: Registry, tmp_path: Path) -> Shell:
    return shell_for(guarded.client, tmp_path / "home")


async def test_a_policy_is_set_shown_and_taken_back(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}"
    options = ("--immutable", "v*,r*", "--except", "latest", "--keep-last", "2", "--keep-untagged")
    expected = {
        "immutable_tags": {"patterns": ["v*", "r*"], "except": ["latest"]},
        "retention": {"keep_last": 2, "keep_days": None, "keep_tags": []},
        "keep_untagged": True,
    }
    assert (await shell.succeed("registries", "policy", "set", "mine", *options, "--json")).json == expected
    assert (await call(guarded, "GET", path)).json["data"]["policy"] == expected
    assert "v*, r*" in (await shell.succeed("registries", "policy", "show", "mine")).out
    back = ("--no-immutable", "--no-retention", "--no-keep-untagged")
    assert (await shell.succeed("registries", "policy", "set", "mine", *back, "--json")).json == NO_POLICY


async def test_a_dry_run_says_what_would_go_and_sets_nothing(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}"
    for tag in ("v1", "v2", "v3"):
        await push_image(guarded, "mine/api", tag)
    ended = await shell.succeed("registries", "policy", "dry-run", "mine", "--keep-last", "1", "--keep-tags", "v1")
    assert "1 of 3 tags would go" in ended.err
    assert [line.split()[:3] for line in ended.out.splitlines() if line.startswith("delete")] == [
        ["delete", "api", "v2"]
    ]
    assert (await call(guarded, "GET", path)).json["data"]["policy"] == NO_POLICY
    tried = await shell.succeed("registries", "policy", "dry-run", "mine", "--json")
    assert tried.json == (await call(guarded, "POST", f"{path}/retention/dry-run")).json["data"]


async def test_a_policy_that_cannot_be_is_refused_in_words(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    ended = await shell.run("registries", "policy", "set", "mine", "--keep-last", "0")
    assert (ended.code, "keep_last must be between" in ended.err) == (2, True)


async def test_the_audit_log_is_listed_with_its_filters(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    await make_registry(guarded, "other")
    await push_image(guarded, "mine/api", "v1")
    everything = (await call(guarded, "GET", "/audit", query={"per_page": "100"})).json["data"]
    assert (await shell.succeed("audit", "list", "--json")).json == everything
    some = await shell.succeed("audit", "list", "--registry", "mine", "--action", "tag.push", "--since", "1h", "--json")
    assert some.json == [event for event in everything if event["action"] == "tag.push"]
    assert len(some.json) == 1
    assert (await shell.succeed("audit", "list", "--until", "1d", "--json")).json == []
    assert "tag.push" in (await shell.succeed("audit", "list")).out
    refused = await shell.run("audit", "list", "--action", "tag.eat")
    assert (refused.code, "action" in refused.err) == (2, True)


async def test_the_audit_log_is_followed_to_its_first_event(guarded: Registry, shell: Shell) -> None:
    for number in range(105):
        await make_registry(guarded, f"r{number}")
    events = (await shell.succeed("audit", "list", "--action", "registry.create", "--json")).json
    assert [event["registry"] for event in events] == [f"r{number}" for number in reversed(range(105))]
