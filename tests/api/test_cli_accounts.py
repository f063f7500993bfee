"""``regserver tokens``: made, used, and ended over the command line."""

from pathlib import Path

import pytest

from support.managing import call, make_registry
from support.pushing import Registry
from support.shell import Shell, shell_for


@pytest.fixture
def shell(guarded: Registry, tmp_path: Path) -> Shell:
    return shell_for(guarded.client, tmp_path / "home")


async def test_a_token_is_made_used_and_deleted(guarded: Registry, shell: Shell) -> None:
    made = (await shell.succeed("tokens", "create", "ci", "--scope", "read", "--expires", "90d", "--json")).json
    listed = (await call(guarded, "GET", "/tokens")).json["data"]
    assert {**listed[0], "token": made["token"], "last_used_at": None} == made
    assert made["expires_at"] is not None
    reader = shell.seen_with(token=made["token"])
    await reader.succeed("registries", "list")
    refused = await reader.run("registries", "create", "mine")
    assert (refused.code, "scope admin" in refused.err) == (4, True)
    assert (await shell.run("tokens", "delete", "ci")).code == 2
    await shell.succeed("tokens", "delete", "ci", "--yes")
    assert (await reader.run("registries", "list")).code == 4


async def test_a_token_for_a_registry_is_made_by_the_registrys_name(guarded: Registry, shell: Shell) -> None:
    registry_id = await make_registry(guarded, "mine")
    made = await shell.succeed("tokens", "create", "ci", "--scope", "registry:mine", "--json")
    assert made.json["scopes"] == [f"registry:{registry_id}"]
    assert (await shell.run("tokens", "create", "ci", "--scope", "registry:nothing")).code == 3


async def test_a_token_is_meant_by_name_or_id_but_never_by_a_name_of_two(shell: Shell) -> None:
    first = (await shell.succeed("tokens", "create", "ci", "--scope", "read", "--json")).json
    assert (await shell.succeed("tokens", "show", "ci", "--json")).json["id"] == first["id"]
    await shell.succeed("tokens", "create", "ci", "--scope", "read", "--expires", "never")
    ended = await shell.run("tokens", "delete", "ci", "--yes")
    assert (ended.code, "by its id" in ended.err) == (1, True)
    await shell.succeed("tokens", "delete", first["id"], "--yes")
    assert (await shell.succeed("tokens", "show", "ci", "--json")).json["id"] != first["id"]
    assert (await shell.run("tokens", "show", "nothing")).code == 3


async def test_login_with_a_token_that_docker_cannot_use_leaves_docker_alone(shell: Shell) -> None:
    token = (await shell.succeed("tokens", "create", "ci", "--scope", "read", "--json")).json["token"]
    ended = await shell.seen_with(token=None).succeed("login", "--token-stdin", stdin=token)
    assert "--registry NAME" in ended.out
    assert not shell.docker.exists()
    await shell.seen_with(token=None).succeed("registries", "list")


async def test_an_id_stays_in_one_piece_on_a_narrow_terminal(shell: Shell) -> None:
    made = (
        await shell.succeed("tokens", "create", "a name of four words", "--scope", "read", "--expires", "9d", "--json")
    ).json
    shown = (await shell.seen_with(more={"COLUMNS": "80"}).type("tokens", "list")).out
    assert made["id"] in shown
    assert max(len(line) for line in shown.splitlines()[1:]) <= 80
