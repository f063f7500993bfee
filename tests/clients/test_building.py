"""From a build to a running pull: what a person types on the first day."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Buildah, Client, Crane, Docker, Podman, StorageClient
from support.layouts import make_image, make_tar
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
Start = Callable[[type[Client]], Client]


@pytest.mark.parametrize("kind", [Buildah, Podman], ids=["buildah", "podman"])
def test_an_image_built_from_scratch_is_pushed_and_pulled(
    kind: type[StorageClient], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    context = tmp_path / "context"
    context.mkdir()
    (context / "hello.txt").write_text("hello\n")
    (context / "Containerfile").write_text('FROM scratch\nCOPY hello.txt /hello.txt\nCMD ["/hello"]\n')
    target = registry.image("built", "v1")
    verb = "bud" if kind is Buildah else "build"
    client.run(verb, "--isolation", "chroot", "--tag", target, context).check()
    client.run("push", "--tls-verify=false", target).check()
    pulled = client.pull(target)
    assert pulled.config in served.stored(registry, "built", "v1")


def test_docker_import_push_remove_and_pull_in_development_mode(
    start: Start, development: Served, tmp_path: Path
) -> None:
    docker = start(Docker)
    assert isinstance(docker, Docker)
    rootfs = tmp_path / "rootfs.tar"
    rootfs.write_bytes(make_tar({"etc/motd": b"welcome\n", "bin/tool": b"#!/bin/sh\n"}))
    target = f"{development.host}/my-images/api:v1"
    identity = docker.run("import", rootfs, target).check().stdout.split()[-1]
    docker.run("push", target).check()
    docker.run("rmi", target).check()
    docker.run("pull", target).check()
    assert docker.pulled(target).config == identity
    saved = tmp_path / "saved.tar"
    docker.run("save", "--output", saved, target).check()
    listing = subprocess.run(["tar", "-tf", saved], capture_output=True, text=True, check=True).stdout
    assert "manifest.json" in listing


def test_an_old_password_ends_with_the_rotation(
    log_in: LogIn, start: Start, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", "rotation")
    old = log_in(Crane, registry.robot)
    old.push(image, registry.image("api", "v1")).check()
    rotated = served.manage("POST", f"/v1/registries/{registry.id}/rotate-credentials")
    assert rotated.status == 200, rotated.body
    fresh = Account(rotated.json["data"]["username"], rotated.json["data"]["password"], registry.robot.host)
    assert fresh.password != registry.robot.password
    assert not old.try_pull(registry.image("api", "v1")).ok
    assert not start(Docker).login(registry.robot).ok
    assert log_in(Docker, fresh).pull(registry.image("api", "v1")).config == image.config


def test_the_docker_config_from_the_api_is_a_login(
    start: Start, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    """`docker_config` of the credentials, saved as config.json, is all a machine needs."""
    given = served.manage("GET", f"/v1/registries/{registry.id}/credentials").json["data"]
    crane = start(Crane)
    assert list(given["docker_config"]["auths"]) == [registry.robot.host]
    (crane.home / "config.json").write_text(json.dumps(given["docker_config"]))
    image = make_image(tmp_path / "image", "docker-config")
    crane.push(image, registry.image("api", "v1")).check()
    assert crane.pull(registry.image("api", "v1")).manifest == image.root
