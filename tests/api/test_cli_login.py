"""``regserver login`` and ``logout``: what they save, and that docker's own login comes of it."""

import base64
import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth

from support.managing import call, make_registry
from support.pushing import Registry
from support.registry import ADMIN_TOKEN, served_app
from support.shell import Shell, shell_for

HELPER = """#!/bin/sh
# docker's credential helper protocol, into a file
echo "$1" >> "$HOME/helper.log"
cat >> "$HOME/helper.log"
[ "${HELPER_EXIT:-0}" = 0 ] || sed 's/.*"Secret"/no keyring for "Secret"/' "$HOME/helper.log"
exit "${HELPER_EXIT:-0}"
"""


@pytest.fixture
def shell(guarded: Registry, tmp_path: Path) -> Shell:
    """Nobody is logged in, and no variable helps."""
    shell = shell_for(guarded.client, tmp_path / "home")
    return shell.seen_with(token=None)


def write(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def read(file: Path) -> Any:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return json.loads(file.read_text())


def host_of(shell: Shell) -> str:
    return str(shell.server).partition("://")[2]


async def test_login_saves_server_and_token_for_the_other_commands(guarded: Registry, shell: Shell) -> None:
    server = str(shell.server)
    ended = await shell.seen_with(server=None).succeed("login", server, "--token-stdin", stdin=f"{ADMIN_TOKEN}\n")
    assert ADMIN_TOKEN not in ended.out + ended.err
    assert stat.S_IMODE(shell.config.stat().st_mode) == 0o600
    saved = tomllib.loads(shell.config.read_text())
    assert saved == {"server": server, "tokens": {server: ADMIN_TOKEN}}
    await make_registry(guarded, "mine")
    assert "mine" in (await shell.seen_with(server=None).succeed("registries", "list")).out


async def test_login_asks_for_the_token_on_a_terminal_and_does_not_show_it(shell: Shell) -> None:
    ended = await shell.type("login", answers=[("API token for", ADMIN_TOKEN)])
    assert ended.code == 0, ended
    assert ADMIN_TOKEN not in ended.out
    await shell.succeed("registries", "list")


async def test_login_without_a_token_or_a_terminal_says_how(shell: Shell) -> None:
    ended = await shell.run("login")
    assert (ended.code, "--token-stdin" in ended.err) == (2, True)


async def test_a_wrong_token_is_not_saved(shell: Shell) -> None:
    ended = await shell.run("login", "--token-stdin", stdin="a-wrong-token-of-somebody\n")
    assert ended.code == 4
    assert not shell.config.exists()
    assert not shell.docker.exists()


async def test_login_at_an_open_server_needs_no_token(root: Path, tmp_path: Path) -> None:
    async with served_app(root, dev=True) as client:
        shell = shell_for(client, tmp_path / "home").seen_with(token=None)
        await shell.succeed("login")
        assert tomllib.loads(shell.config.read_text()) == {"server": shell.server}
        assert not shell.docker.exists()


async def test_login_logs_docker_in_as_the_administrator(guarded: Registry, shell: Shell) -> None:
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    auth = read(shell.docker)["auths"][host_of(shell)]["auth"]
    assert base64.b64decode(auth).decode() == f"admin:{ADMIN_TOKEN}"
    answer = await guarded.seen_by(f"Basic {auth}").send("GET", "/token", query={"scope": "repository:mine/api:pull"})
    assert answer.status == 200


async def test_login_leaves_docker_alone_when_asked_to(shell: Shell) -> None:
    await shell.succeed("login", "--no-docker", "--token-stdin", stdin=ADMIN_TOKEN)
    assert not shell.docker.exists()


async def test_login_for_a_registry_logs_docker_in_as_its_robot(guarded: Registry, shell: Shell) -> None:
    registry_id = await make_registry(guarded, "mine")
    ended = await shell.seen_with(token=ADMIN_TOKEN).succeed("login", "--registry", "mine")
    given = (await call(guarded, "GET", f"/registries/{registry_id}/credentials")).json["data"]
    assert given["password"] not in ended.out
    assert not shell.config.exists()
    auth = read(shell.docker)["auths"][given["endpoint"]]["auth"]
    assert auth == given["docker_config"]["auths"][given["endpoint"]]["auth"]
    assert f"Basic {auth}" == encode_basic_auth(given["username"], given["password"])
    drawn = await guarded.seen_by(f"Basic {auth}").send("GET", "/token", query={"scope": "repository:mine/api:push"})
    assert drawn.status == 200
    listed = await guarded.seen_by(f"Bearer {drawn.json['token']}").send("GET", "/v2/")
    assert listed.status == 200


async def test_login_keeps_everything_else_in_dockers_config(guarded: Registry, shell: Shell) -> None:
    others = {
        "auths": {"elsewhere.example.com": {"auth": "eA==", "email": "x"}},
        "HttpHeaders": {"X": "y"},
        "credHelpers": {"third.example.com": "pass"},
    }
    write(shell.docker, others)
    await make_registry(guarded, "mine")
    await shell.seen_with(token=ADMIN_TOKEN).succeed("login", "--registry", "mine")
    after = read(shell.docker)
    assert after["auths"].pop(host_of(shell))
    assert after == others
    await shell.succeed("logout")
    assert read(shell.docker) == others


async def test_login_follows_docker_config_and_links(guarded: Registry, shell: Shell, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "docker.json"
    write(kept, {})
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").symlink_to(kept)
    await make_registry(guarded, "mine")
    shell = shell.seen_with(token=ADMIN_TOKEN, more={"DOCKER_CONFIG": str(folder)})
    await shell.succeed("login", "--registry", "mine")
    assert (folder / "config.json").is_symlink()
    assert host_of(shell) in read(kept)["auths"]
    assert not shell.docker.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": []}'])
async def test_a_config_that_is_none_is_left_as_it_is(guarded: Registry, shell: Shell, content: str) -> None:
    shell.docker.parent.mkdir()
    shell.docker.write_text(content)
    await make_registry(guarded, "mine")
    ended = await shell.seen_with(token=ADMIN_TOKEN).run("login", "--registry", "mine")
    assert (ended.code, "DOCKER_CONFIG" in ended.err) == (1, True)
    assert shell.docker.read_text() == content


def with_helper(shell: Shell, config: Any, code: int = 0) -> Shell:
    programs = shell.home / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-fake"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    write(shell.docker, config)
    path = f"{programs}:{shell.environment['PATH']}"
    return shell.seen_with(token=ADMIN_TOKEN, more={"PATH": path, "HELPER_EXIT": str(code)})


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
async def test_a_credential_helper_is_given_the_password_instead_of_the_file(
    guarded: Registry, shell: Shell, key: str
) -> None:
    host = host_of(shell)
    config = {"credsStore": "fake"} if key == "credsStore" else {"credHelpers": {host: "fake"}}
    registry_id = await make_registry(guarded, "mine")
    shell = with_helper(shell, config)
    ended = await shell.succeed("login", "--registry", "mine")
    assert "docker-credential-fake" in ended.out
    given = (await call(guarded, "GET", f"/registries/{registry_id}/credentials")).json["data"]
    log = shell.home / "helper.log"
    action, _, request = log.read_text().partition("\n")
    assert action == "store"
    assert json.loads(request) == {"ServerURL": host, "Username": "robot$mine", "Secret": given["password"]}
    assert read(shell.docker) == {**config, "auths": {host: {}}}
    log.unlink()
    await shell.succeed("logout")
    assert log.read_text() == f"erase\n{host}"
    assert read(shell.docker) == {**config, "auths": {}}


async def test_a_helper_that_fails_changes_nothing_and_shows_no_secret(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    shell = with_helper(shell, {"credsStore": "fake"}, code=1)
    ended = await shell.run("login", "--registry", "mine")
    assert (ended.code, "docker-credential-fake store failed" in ended.err) == (1, True)
    assert "no keyring for" in ended.err
    assert "eyJ" not in ended.err
    assert json.loads(shell.docker.read_text()) == {"credsStore": "fake"}


async def test_a_helper_that_is_missing_is_named(guarded: Registry, shell: Shell) -> None:
    await make_registry(guarded, "mine")
    write(shell.docker, {"credsStore": "nowhere"})
    ended = await shell.seen_with(token=ADMIN_TOKEN).run("login", "--registry", "mine")
    assert (ended.code, "docker-credential-nowhere" in ended.err) == (1, True)
    assert "credsStore" in ended.err


async def test_logout_forgets_the_token_and_logs_docker_out(shell: Shell) -> None:
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    ended = await shell.succeed("logout")
    assert "docker is logged out too" in ended.out
    assert ADMIN_TOKEN not in shell.config.read_text()
    assert read(shell.docker) == {"auths": {}}
    assert (await shell.run("registries", "list")).code == 4
    assert "not logged in" in (await shell.succeed("logout")).out


async def test_docker_is_logged_in_and_out_where_the_server_says_it_is_reached(root: Path, tmp_path: Path) -> None:
    async with served_app(root, public_url="https://registry.example.com") as client:
        shell = shell_for(client, tmp_path / "home")
        await shell.succeed("registries", "create", "mine")
        await shell.succeed("login", "--registry", "mine")
        assert list(read(shell.docker)["auths"]) == ["registry.example.com"]
        await shell.succeed("logout")
        assert read(shell.docker) == {"auths": {}}


async def test_a_token_goes_to_the_server_that_it_was_saved_for_alone(shell: Shell, tmp_path: Path) -> None:
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    other = str(shell.server).replace("127.0.0.1", "localhost")
    ended = await shell.run("registries", "list", "--server", other)
    assert (ended.code, "wants a token" in ended.err) == (4, True)


async def test_a_file_of_tokens_that_others_may_read_is_refused(shell: Shell) -> None:
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    shell.config.chmod(0o644)
    ended = await shell.run("registries", "list")
    assert (ended.code, "chmod 600" in ended.err) == (1, True)


async def test_flags_win_over_variables_and_variables_over_the_login(shell: Shell) -> None:
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    wrong = "a-wrong-token-of-somebody"
    by_variable = await shell.seen_with(token=wrong).run("registries", "list")
    assert (by_variable.code, "REGSERVER_TOKEN" in by_variable.err) == (4, True)
    assert (await shell.seen_with(token=wrong).run("registries", "list", "--token", ADMIN_TOKEN)).code == 0


async def test_the_folder_for_configs_may_be_elsewhere(shell: Shell, tmp_path: Path) -> None:
    shell = shell.seen_with(more={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    assert (tmp_path / "xdg" / "regserver" / "config.toml").exists()
    assert not shell.config.exists()


async def test_login_warns_of_a_token_in_the_open(shell: Shell) -> None:
    near = await shell.succeed("login", "--token-stdin", stdin=ADMIN_TOKEN)
    assert near.err == ""
    far = str(shell.server).replace("127.0.0.1", "0.0.0.0")
    assert "plain HTTP" in (await shell.succeed("login", far, "--token-stdin", stdin=ADMIN_TOKEN)).err
