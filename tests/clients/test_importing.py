"""`regserver import --from`: Debian's docker-registry and a regserver, copied bit for bit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.clients import Client, Crane, Missing, Oras, Result, Skopeo, find
from support.distribution import docker_registry
from support.layouts import TAG, make_image, make_index
from support.served import Account, Served, Tenant
from support.shell import Shell

LogIn = Callable[[type[Client], Account], Client]
Start = Callable[[type[Client]], Client]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Account]:
    """The registry that is left behind: an open `registry:2`."""
    try:
        find("docker-registry")
    except Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    with docker_registry(tmp_path / "other") as account:
        yield account


class Moving:
    """`regserver import --from …` as the administrator of the served registry."""

    def __init__(self, served: Served, home: Path) -> None:
        self._served, self.home = served, home

    def run(
        self, source: str, *arguments: object, stdin: str = "", docker: Account | None = None, token: str | None = None
    ) -> Result:
        command = [sys.executable, "-m", "regserver", "import", "--from", source, *map(str, arguments)]
        if docker:
            (self.home / "config.json").write_text(json.dumps(docker.docker_config))
        given = {"HOME": str(self.home), "DOCKER_CONFIG": str(self.home), "REGSERVER_SERVER": self._served.url,
                 "REGSERVER_TOKEN": self._served.admin_token if token is None else token}  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, **given}, input=stdin, capture_output=True, text=True, timeout=120
        )
        return Result(command, done.returncode, done.stdout, done.stderr)


@pytest.fixture
def moving(served: Served, tmp_path: Path) -> Moving:
    (tmp_path / "home").mkdir()
    return Moving(served, tmp_path / "home")


def test_a_whole_registry_is_copied_with_its_tags_and_digests(
    start: Start, other: Account, create: Callable[..., Tenant], served: Served, moving: Moving, tmp_path: Path
) -> None:
    """Images and indexes, Docker's format byte for byte, and a name of one part; a second run finds all of it there."""
    skopeo, crane, team = start(Skopeo), start(Crane), create("team")
    assert isinstance(skopeo, Skopeo)
    index, image = make_index(tmp_path / "index", "moved"), make_image(tmp_path / "image", "moved")
    skopeo.push(index, f"{other.host}/{team.name}/web:v1").check()
    skopeo.push(image, f"{other.host}/{team.name}/web:v2").check()
    skopeo.push(image, f"{other.host}/{team.name}/deep/er/api:latest").check()
    skopeo.push(image, f"{other.host}/one-part-{team.name}:3").check()
    docker = ("copy", "--all", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{index.path}:{TAG}")
    skopeo.run(*docker, f"docker://{other.host}/{team.name}/web:docker").check()
    old = crane.run("digest", "--insecure", f"{other.host}/{team.name}/web:docker").check().stdout.strip()

    done = moving.run(f"http://{other.host}").check()
    assert "3 images: 5 tags copied, 0 there already" in done.stdout, done.output
    assert f"[2/3] {team.name}/deep/er/api: 1 tag" in done.stderr
    assert set(served.stored(team, "web", "v1")) == index.digests
    for name in ("web", "deep/er/api"):
        assert set(served.stored(team, name, "v2" if name == "web" else "latest")) == image.digests
    kept = served.stored(team, "web", old)
    assert b"vnd.docker.distribution.manifest.list.v2+json" in kept[old]
    listed = served.manage("GET", "/v1/registries?name=library").json["data"]
    tags = f"/v1/registries/{listed[0]['id']}/images/one-part-{team.name}/tags"
    assert [row["name"] for row in served.manage("GET", tags).json["data"]] == ["3"]

    again = moving.run(f"http://{other.host}", "--json").check()
    told = json.loads(again.stdout)
    assert (told["copied"], told["there"], told["blobs"], told["bytes"]) == (0, 5, 0, 0)


def test_what_was_begun_is_finished_and_what_is_there_is_not_sent_again(
    start: Start, other: Account, create: Callable[..., Tenant], served: Served, moving: Moving, tmp_path: Path
) -> None:
    skopeo, team = start(Skopeo), create("team")
    made = {tag: make_image(tmp_path / tag, tag) for tag in ("v1", "v2", "other")}
    for tag, image in made.items():
        skopeo.push(image, f"{other.host}/{team.name}/app:{tag}").check()
    skopeo.push(made["v1"], f"{other.host}/{team.name}/twin:v1").check()
    first = json.loads(moving.run(f"http://{other.host}", "--json", "--tag", "v1", "--image", "*/app").check().stdout)
    assert (first["images"], first["copied"], first["blobs"]) == (1, 1, 3)
    rest = json.loads(moving.run(f"http://{other.host}", "--json").check().stdout)
    assert (rest["copied"], rest["there"], rest["blobs"]) == (3, 1, 6), "the twin's blobs are mounted"
    for tag, image in made.items():
        assert set(served.stored(team, "app", tag)) == image.digests


def test_images_go_below_a_registry_of_choice_and_a_moved_tag_is_kept_if_asked(
    start: Start, other: Account, registry: Tenant, served: Served, moving: Moving, tmp_path: Path
) -> None:
    skopeo = start(Skopeo)
    old, new = make_image(tmp_path / "old", "old"), make_image(tmp_path / "new", "new")
    skopeo.push(old, f"{other.host}/team/app:v1").check()
    arguments = (f"http://{other.host}", "--into", registry.name, "--image", "team/app")
    moving.run(*arguments).check()
    skopeo.push(new, f"{other.host}/team/app:v1").check()
    kept = moving.run(*arguments, "--keep").check()
    assert "0 there already, 1 kept as they are" in kept.stdout
    assert set(served.stored(registry, "team/app", "v1")) == old.digests
    moving.run(*arguments).check()
    assert set(served.stored(registry, "team/app", "v1")) == new.digests


def test_a_login_is_taken_from_docker_or_from_stdin_and_a_missing_one_is_said(
    start: Start, registry: Tenant, served: Served, moving: Moving, tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "closed", login=True) as closed:
        skopeo = start(Skopeo)
        skopeo.login(closed).check()
        image = make_image(tmp_path / "image", "behind a login")
        skopeo.push(image, f"{closed.host}/app:v1").check()
        arguments = (f"http://{closed.host}", "--into", registry.name)
        refused = moving.run(*arguments)
        assert refused.code == 4, refused.output
        assert "does not let an anonymous client in" in refused.stderr
        assert "docker login there first" in refused.stderr
        named = ("--from-username", closed.username, "--from-password-stdin")
        wrong = moving.run(*arguments, *named, stdin="wrong-secret")
        assert (wrong.code, "wrong-secret" in wrong.output) == (4, False), wrong.output
        assert "1 tag copied" in moving.run(*arguments, *named, stdin=f"{closed.password}\n").check().stdout
        assert "1 there already" in moving.run(*arguments, docker=closed).check().stdout
    assert set(served.stored(registry, "app", "v1")) == image.digests


def test_a_registry_that_gives_tokens_is_copied_as_docker_is_logged_in_there(
    log_in: LogIn, registry: Tenant, create: Callable[..., Tenant], served: Served, moving: Moving, tmp_path: Path
) -> None:
    there, image = create(), make_image(tmp_path / "image", "by token")
    log_in(Skopeo, registry.robot).push(image, registry.image("app", "v1")).check()
    arguments = (served.url, "--image", f"{registry.name}/*", "--into", there.name)
    assert moving.run(*arguments).code != 0
    moving.run(*arguments, docker=registry.robot).check()
    assert set(served.stored(there, f"{registry.name}/app", "v1")) == image.digests


@pytest.mark.parametrize("knows_referrers", [True, False], ids=["regserver", "docker-registry"])
def test_what_refers_to_an_image_comes_with_it(
    log_in: LogIn, other: Account, registry: Tenant, create: Callable[..., Tenant], moving: Moving, tmp_path: Path,
    knows_referrers: bool,
) -> None:  # fmt: skip
    """From a registry that answers for referrers, and from one where clients keep them under a tag."""
    there, oras = create(), log_in(Oras, registry.robot)
    assert isinstance(oras, Oras)
    name = registry.image("app", "v1") if knows_referrers else f"{other.host}/app:v1"
    oras.push(make_index(tmp_path / "made", "signed"), name).check()
    (tmp_path / "sbom.json").write_text("{}")
    attach = ("attach", "--artifact-type", "application/vnd.test.sbom", "--disable-path-validation")
    oras.registry(*attach, name, tmp_path / "sbom.json").check()
    oras.registry(*attach, "--platform", "linux/arm64", name, tmp_path / "sbom.json").check()
    source, image = name.rpartition(":")[0].split("/", 1)
    arguments = (f"http://{source}", "--image", image, "--tag", "v1", "--into", there.name)
    moving.run(*arguments, docker=registry.robot).check()
    reader = log_in(Oras, there.robot)
    assert isinstance(reader, Oras)
    for platform in ((), ("--platform", "linux/arm64")):
        asked = reader.registry("discover", "--format", "json", *platform, there.image(image, "v1")).check()
        document = json.loads(asked.stdout)
        found = document.get("referrers") or document.get("manifests") or []
        assert [one["artifactType"] for one in found] == ["application/vnd.test.sbom"], asked.output


def test_what_the_other_registry_has_lost_is_named_and_the_rest_is_copied(
    start: Start, other: Account, registry: Tenant, served: Served, moving: Moving, tmp_path: Path
) -> None:
    skopeo = start(Skopeo)
    made = {tag: make_image(tmp_path / tag, f"lost {tag}") for tag in ("whole", "rotten", "gone")}
    for tag, image in made.items():
        skopeo.push(image, f"{other.host}/app:{tag}").check()
    for tag in ("rotten", "gone"):
        hexadecimal = made[tag].layers[0].removeprefix("sha256:")
        (file,) = (tmp_path / "other" / "data").rglob(f"sha256/{hexadecimal[:2]}/{hexadecimal}/data")
        if tag == "gone":
            file.unlink()
        else:
            file.write_bytes(b"?" * file.stat().st_size)
    ended = moving.run(f"http://{other.host}", "--into", registry.name)
    assert ended.code == 1, ended.output
    assert "1 tag copied" in ended.stdout
    assert "2 names could not be copied" in ended.stderr
    assert f"app:rotten: app: http://{other.host} sent other bytes than {made['rotten'].layers[0]}" in ended.stderr
    assert f"app:gone: app: the source lacks {made['gone'].layers[0]}" in ended.stderr
    assert set(served.stored(registry, "app", "whole")) == made["whole"].digests
    rows = served.manage("GET", f"/v1/registries/{registry.id}/images/app/tags").json["data"]
    assert [row["name"] for row in rows] == ["whole"]


async def test_a_person_sees_how_far_it_is(
    start: Start, other: Account, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    start(Skopeo).push(make_image(tmp_path / "made", "seen", size=3_000_000), f"{other.host}/app:v1").check()
    (tmp_path / "person").mkdir()
    shell = Shell(tmp_path / "person", served.url, served.admin_token)
    ended = await shell.type("import", "--from", f"http://{other.host}", "--into", registry.name)
    assert ended.code == 0, ended.out
    assert "[1/1] app: 1 tag" in ended.out
    assert "blobs" in ended.out, "there is a bar"
    assert "%" in ended.out


def test_an_open_server_makes_the_registries_by_the_first_push(
    start: Start, other: Account, development: Served, moving: Moving, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "made", "into dev")
    start(Skopeo).push(image, f"{other.host}/never-seen/app:v1").check()
    done = moving.run(f"http://{other.host}", "--server", development.url, token="")
    assert "1 tag copied" in done.check().stdout
    answer = development.request("GET", "/v2/never-seen/app/manifests/v1")
    assert answer.headers["Docker-Content-Digest"] == image.root
