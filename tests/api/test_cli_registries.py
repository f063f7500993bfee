"""``regserver registries`` and ``regserver credentials``, and what every command has in common."""

import json
from pathlib import Path

import pytest

from regserver.cli.api import PER_PAGE
from support.managing import call, make_registry
from support.pushing import Registry, push_image
from support.registry import served_app
from support.served import free_port
from support.shell import Shell, shell_for

GIB = 2**30


@pytest.fixture
def shell(guarded: Registry, tmp_path: Path) -> Shell:
    return shell_for(guarded.client, tmp_path / "home")


async def test_json_is_the_data_of_the_api_unchanged(guarded: Registry, shell: Shell) -> None:
    registry_id = await make_registry(guarded, "one")
    await make_registry(guarded, "two", public=True)
    listed, shown = await call(guarded, "GET", "/registries"), await call(guarded, "GET", f"/registries/{registry_id}")
    assert (await shell.succeed("registries", "list", "--json")).json == listed.json["data"]
    assert (await shell.succeed("registries", "show", "one", "--json")).json == shown.json["data"]
    assert (await shell.succeed("registries", "show", registry_id, "--json")).json == shown.json["data"]


async def test_a_list_is_a_table_with_one_line_a_row(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "one")
    await push_image(guarded, "one/api", "v1")
    lines = (await shell.succeed("registries", "list")).out.splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "PUBLIC", "IMAGES", "SIZE", "CREATED"]
    assert lines[1].startswith("one   active  no      1 ")
    assert "ago)" in lines[1] or "now)" in lines[1]
    assert len(lines) == 2


async def test_an_empty_list_says_what_to_do_on_stderr(shell: Shell) -> None:
    ended = await shell.succeed("registries", "list")
    assert ended.out == ""
    assert "registries create" in ended.err
    assert (await shell.succeed("registries", "list", "--json")).json == []


async def test_a_list_follows_every_page(guarded: Registry, shell: Shell) -> None:
    names = [f"r{number:03}" for number in range(PER_PAGE + 5)]
    for name in names:
        await make_registry(guarded, name)
    ended = await shell.succeed("registries", "list", "--sort", "name", "--json")
    assert [row["name"] for row in ended.json] == names
    some = await shell.succeed("registries", "list", "--sort", "name", "--reverse", "--limit", "3", "--json")
    assert [row["name"] for row in some.json] == names[:-4:-1]
    found = await shell.succeed("registries", "list", "--search", "00", "--json")
    assert {row["name"] for row in found.json} == {name for name in names if "00" in name}


async def test_create_makes_a_registry_that_is_ready(guarded: Registry, shell: Shell) -> None:
    ended = await shell.succeed("registries", "create", "mine", "--public", "--quota-gb", "0.5", "--json")
    assert (ended.json["name"], ended.json["status"]) == ("mine", "creating")
    made = (await call(guarded, "GET", f"/registries/{ended.json['id']}")).json["data"]
    assert (made["status"], made["public"], made["quota"]["storage_gb"]) == ("active", True, 0.5)


async def test_update_changes_what_is_named_and_nothing_else(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine', quota={'storage_gb': 5})}"
    await shell.succeed("registries", "update", "mine", "--public")
    data = (await call(guarded, "GET", path)).json["data"]
    assert (data["public"], data["quota"]["storage_gb"]) == (True, 5)
    await shell.succeed("registries", "update", "mine", "--default-quota")
    data = (await call(guarded, "GET", path)).json["data"]
    assert (data["public"], data["quota"]["storage_gb"]) == (True, None)
    await shell.succeed("registries", "update", "mine", "--private")
    assert (await call(guarded, "GET", path)).json["data"]["public"] is False
    nothing = await shell.run("registries", "update", "mine")
    assert (nothing.code, "--help" in nothing.err) == (2, True)


async def test_what_destroys_wants_yes_where_nobody_can_be_asked(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}"
    refused = await shell.run("registries", "delete", "mine", stdin="y\n")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert (await call(guarded, "GET", path)).status == 200
    await shell.succeed("registries", "delete", "mine", "--yes")
    assert (await call(guarded, "GET", path)).status == 404


@pytest.mark.parametrize(("typed", "code", "status"), [("y", 0, 404), ("n", 1, 200), ("", 1, 200)])
async def test_what_destroys_asks_on_a_terminal(
    guarded: Registry, shell: Shell, typed: str, code: int, status: int
) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}"
    ended = await shell.type("registries", "delete", "mine", answers=[("[y/N]", typed)])
    assert ended.code == code, ended
    assert "mine (0 images, 0 B)" in ended.out
    assert (await call(guarded, "GET", path)).status == status


async def test_a_registry_that_holds_images_is_deleted_by_force_alone(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    await push_image(guarded, "mine/api", "v1")
    refused = await shell.run("registries", "delete", "mine", "--yes")
    assert (refused.code, "--force" in refused.err) == (5, True)
    await shell.succeed("registries", "delete", "mine", "--yes", "--force")


async def test_on_a_terminal_the_table_is_drawn(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    ended = await shell.type("registries", "list")
    assert ended.code == 0
    assert "mine" in ended.out
    assert "\x1b[1m" in ended.out
    assert "\x1b" not in (await shell.seen_with(more={"NO_COLOR": "1", "TERM": "dumb"}).type("registries", "list")).out


async def test_what_is_not_there_ends_with_3(shell: Shell) -> None:
    ended = await shell.run("registries", "show", "nothing")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("regserver: there is no registry nothing\n")
    assert (await shell.run("registries", "show", "reg_" + "a" * 26)).code == 3
    assert (await shell.run("images", "show", "nothing/api")).code == 3


async def test_who_is_not_let_in_ends_with_4(shell: Shell) -> None:
    nobody = await shell.seen_with(token=None).run("registries", "list")
    assert (nobody.code, "regserver login" in nobody.err) == (4, True)
    wrong = await shell.run("registries", "list", "--token", "a-wrong-token-of-somebody")
    assert (wrong.code, "from --token" in wrong.err) == (4, True)
    assert "a-wrong-token" not in wrong.err


async def test_what_exists_already_ends_with_5(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    ended = await shell.run("registries", "create", "mine")
    assert (ended.code, "choose another name" in ended.err) == (5, True)


async def test_a_server_that_is_not_there_ends_with_6(shell: Shell) -> None:
    ended = await shell.run("registries", "list", "--server", f"127.0.0.1:{free_port()}")
    assert (ended.code, "Connection refused" in ended.err) == (6, True)
    assert "--server" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["registries"],
        ["registries", "list", "--limit", "0"],
        ["registries", "list", "--sort", "colour"],
        ["registries", "create", "My Images"],
        ["registries", "list", "--server", "ftp://127.0.0.1"],
        ["registries", "list", "--token", "two words"],
        ["credentials", "rotate", "mine", "--grace", "soon"],
        ["images", "show", "no-slash"],
        ["images", "show", "mine/api:v1"],
        ["tags", "show", "mine/api"],
        ["audit", "list", "--since", "yesterday"],
    ],
    ids=" ".join,
)
async def test_what_cannot_be_meant_ends_with_2_and_a_line(shell: Shell, arguments: list[str]) -> None:
    ended = await shell.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("regserver")
    assert "Traceback" not in ended.err


async def test_a_reader_that_has_seen_enough_is_no_error_to_look_at(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    ended = await shell.run_unread("registries", "list")
    assert (ended.code, ended.err) == (1, "")


async def test_an_open_server_needs_no_token(root: Path, tmp_path: Path) -> None:
    async with served_app(root, dev=True) as client:
        shell = shell_for(client, tmp_path / "home").seen_with(token=None)
        await shell.succeed("registries", "create", "mine")
        assert [row["name"] for row in (await shell.succeed("registries", "list", "--json")).json] == ["mine"]


async def test_credentials_are_shown_in_every_form(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}/credentials"
    given = (await call(guarded, "GET", path)).json["data"]
    assert (await shell.succeed("credentials", "show", "mine", "--json")).json == given
    assert (await shell.succeed("credentials", "show", "mine", "--password-only")).out == given["password"] + "\n"
    shown = await shell.succeed("credentials", "show", "mine", "--docker-config")
    assert json.loads(shown.out) == given["docker_config"]
    assert (
        f"Username  {given['username']}\nPassword  {given['password']}\n"
        in (await shell.succeed("credentials", "show", "mine")).out
    )


async def test_a_rotation_asks_unless_it_leaves_a_grace(guarded: Registry, shell: Shell) -> None:
    path = f"/registries/{await make_registry(guarded, 'mine')}/credentials"
    before = (await call(guarded, "GET", path)).json["data"]["password"]
    assert (await shell.run("credentials", "rotate", "mine")).code == 2
    assert (await call(guarded, "GET", path)).json["data"]["password"] == before
    ended = await shell.succeed("credentials", "rotate", "mine", "--grace", "1h", "--json")
    assert ended.json["password"] == (await call(guarded, "GET", path)).json["data"]["password"] != before
    assert "previous_valid_until" in ended.json
    ended = await shell.succeed("credentials", "rotate", "mine", "--yes", "--json")
    assert "previous_valid_until" not in ended.json
