"""``regserver events``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.managing import call, collect, make_registry
from support.pushing import Registry, push_image
from support.registry import ADMIN, served_app
from support.shell import Shell, shell_for


@pytest.fixture
async def live(root: Path) -> AsyncIterator[Registry]:
    """What happened there: a push, a deletion, a collection, a quota."""
    async with served_app(root, event_stream_seconds=600) as client:
        registry = Registry(client, ADMIN)
        identity = await make_registry(registry, "mine")
        await push_image(registry, "mine/team/api", "v1")
        await call(registry, "DELETE", f"/registries/{identity}/images/team%2Fapi/tags/v1")
        await collect(registry, identity)
        await call(registry, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": 2}})
        yield registry


@pytest.fixture
def shell(live: Registry, tmp_path: Path) -> Shell:
    return shell_for(live.client, tmp_path / "home")


async def test_what_happened_is_shown_line_by_line(shell: Shell) -> None:
    lines = (await shell.succeed("events", "--after", "0", "--limit", "4")).out.splitlines()
    told = [line.split(maxsplit=1)[1] for line in lines]
    assert told[0].startswith("pushed     mine/team/api:v1  sha256:")
    assert told[0].endswith("by admin")
    assert told[1].startswith("deleted    mine/team/api:v1")
    assert told[2].startswith("collected  mine  completed, freed ")
    assert told[3].startswith("quota      mine  changed: ")
    assert " of 2.00 GiB" in told[3]


async def test_as_json_each_event_is_a_line(shell: Shell) -> None:
    chosen = ("--registry", "mine", "--type", "deleted,quota")
    out = (await shell.succeed("events", "--after", "0", "--limit", "2", "--json", *chosen)).out
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["deleted", "quota"]
    again = await shell.succeed("events", "--after", str(events[0]["id"]), "--limit", "1", "--json", *chosen)
    assert again.json == events[1]


async def test_what_the_server_refuses_is_said(shell: Shell) -> None:
    ended = await shell.run("events", "--after", "x")
    assert (ended.code, ended.out) == (2, "")
    assert "Last-Event-ID must be a whole number" in ended.err
    ended = await shell.run("events", "--type", "made")
    assert "type must be some of" in ended.err
    ended = await shell.seen_with(server="http://127.0.0.1:1").run("events")
    assert "cannot reach" in ended.err


async def test_a_stream_that_ends_is_taken_up_again_without_a_gap(root: Path, tmp_path: Path) -> None:
    async with served_app(root) as client:  # where every stream ends when it has sent what there is
        registry = Registry(client, ADMIN)
        await make_registry(registry, "mine")
        for tag in ("v1", "v2"):
            await push_image(registry, "mine/api", tag)
        shell = shell_for(client, tmp_path / "home")
        first = (await shell.succeed("events", "--after", "0", "--limit", "1", "--json")).json

        async def push_more() -> None:
            await push_image(registry, "mine/api", "v3")

        await push_more()
        out = (await shell.succeed("events", "--after", str(first["id"]), "--limit", "2", "--json")).out
        assert [json.loads(line)["reference"] for line in out.splitlines()] == ["v2", "v3"]
