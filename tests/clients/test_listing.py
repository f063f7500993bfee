"""What clients show of a registry: tags, repositories, an image's config."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.clients import Client, Crane, Oras, Regctl, Skopeo
from support.layouts import make_image
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]

TAGS = ["1.0", "1.1", "latest", "v2"]


def tags_by_crane(client: Client, repository: str) -> Sequence[str]:
    return client.run("ls", repository).check().stdout.split()


def tags_by_regctl(client: Client, repository: str) -> Sequence[str]:
    return client.run("tag", "ls", repository).check().stdout.split()


def tags_by_oras(client: Client, repository: str) -> Sequence[str]:
    assert isinstance(client, Oras)
    return client.registry("repo", "tags", repository).check().stdout.split()


def tags_by_skopeo(client: Client, repository: str) -> Sequence[str]:
    options = ("--tls-verify=false", "--authfile", client.home / "auth.json")
    found = json.loads(client.run("list-tags", *options, f"docker://{repository}").check().stdout)["Tags"]
    return [str(tag) for tag in found]


WAYS = [(Crane, tags_by_crane), (Regctl, tags_by_regctl), (Oras, tags_by_oras), (Skopeo, tags_by_skopeo)]


@pytest.mark.parametrize(("kind", "tags"), WAYS, ids=[kind.name for kind, _ in WAYS])
def test_a_client_lists_the_tags_that_were_pushed(
    kind: type[Client], tags: Callable[[Client, str], Sequence[str]], log_in: LogIn, registry: Tenant, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    image = make_image(tmp_path / "image", f"listed-{kind.name}")
    for tag in reversed(TAGS):
        client.push(image, registry.image("team/api", tag)).check()
    assert tags(client, registry.image("team/api")) == TAGS


def test_the_administrator_sees_every_repository_and_a_robot_not_those_of_others(
    log_in: LogIn, registry: Tenant, create: Callable[..., Tenant], served: Served, tmp_path: Path
) -> None:
    image, other = make_image(tmp_path / "image", "catalog"), create("other")
    for tenant in (registry, other):
        log_in(Crane, tenant.robot).push(image, tenant.image("team/api", "v1")).check()
    own, foreign = (f"{tenant.name}/team/api" for tenant in (registry, other))
    assert {own, foreign} <= set(log_in(Crane, served.admin).run("catalog", served.host).check().stdout.split())
    robot = log_in(Oras, registry.robot)
    assert isinstance(robot, Oras)
    seen = robot.registry("repo", "ls", served.host).check().stdout.split()
    assert own in seen
    assert foreign not in seen


def test_skopeo_inspects_an_image(log_in: LogIn, registry: Tenant, tmp_path: Path) -> None:
    client = log_in(Skopeo, registry.robot)
    image = make_image(tmp_path / "image", "inspected")
    client.push(image, registry.image("api", "v1")).check()
    options = ("--tls-verify=false", "--authfile", client.home / "auth.json")
    shown = json.loads(client.run("inspect", *options, f"docker://{registry.image('api', 'v1')}").check().stdout)
    assert shown["Digest"] == image.root
    assert shown["Layers"] == image.layers
    assert shown["RepoTags"] == ["v1"]


def test_crane_validates_every_byte_of_what_regctl_pushed(log_in: LogIn, registry: Tenant, tmp_path: Path) -> None:
    log_in(Regctl, registry.robot).push(
        make_image(tmp_path / "image", "validated"), registry.image("api", "v1")
    ).check()
    shown = log_in(Crane, registry.robot).run("validate", "--remote", registry.image("api", "v1")).check()
    assert "PASS" in shown.output
