"""Multi-platform images: pushed whole, pulled whole or for one platform."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Buildah, Client, Crane, Docker, LayoutClient, Oras, Podman, Regctl, Skopeo, StorageClient
from support.layouts import INDEX, make_image, make_index
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]

KEEPS_BYTES = [Skopeo, Crane, Oras, Regctl]
TAKES_ITS_PLATFORM = [Docker, Podman, Buildah]


@pytest.mark.parametrize("kind", KEEPS_BYTES, ids=[kind.name for kind in KEEPS_BYTES])
def test_an_index_is_pushed_and_pulled_whole_and_bit_exact(
    kind: type[LayoutClient], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    index = make_index(tmp_path / "index", f"index-{kind.name}", ["amd64", "arm64", "riscv64"])
    client = log_in(kind, registry.robot)
    client.push(index, registry.image("team/app", "multi")).check()
    assert set(served.stored(registry, "team/app", "multi")) == index.digests
    assert client.pull(registry.image("team/app", "multi")).manifest == index.root


@pytest.mark.parametrize("kind", TAKES_ITS_PLATFORM, ids=[kind.name for kind in TAKES_ITS_PLATFORM])
def test_an_engine_pulls_its_own_platform_out_of_an_index(
    kind: type[Client], log_in: LogIn, registry: Tenant, tmp_path: Path
) -> None:
    index = make_index(tmp_path / "index", f"platform-{kind.name}")
    log_in(Oras, registry.robot).push(index, registry.image("app", "multi")).check()
    configs = {
        child["platform"]["architecture"]: index.manifest(child["digest"])["config"]["digest"]
        for child in index.manifest()["manifests"]
    }
    assert log_in(kind, registry.robot).pull(registry.image("app", "multi")).config == configs["amd64"]


@pytest.mark.parametrize("kind", [Podman, Buildah], ids=["podman", "buildah"])
def test_a_manifest_list_made_by_the_client_arrives_whole(
    kind: type[StorageClient], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    assert isinstance(client, StorageClient)
    image = make_image(tmp_path / "image", f"list-{kind.name}")
    identity = client.load(image)
    client.run("manifest", "create", "both").check()
    client.run("manifest", "add", "both", f"containers-storage:{identity}").check()
    target = f"docker://{registry.image('app', 'list')}"
    client.run("manifest", "push", "--tls-verify=false", "--all", "both", target).check()
    stored = served.stored(registry, "app", "list")
    assert image.config in stored


def test_docker_makes_and_pushes_a_manifest_list(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    docker = log_in(Docker, registry.robot)
    parts = []
    for name in ("one", "two"):
        parts.append(registry.image("app", name))
        docker.push(make_image(tmp_path / name, f"docker-list-{name}"), parts[-1]).check()
    both = registry.image("app", "both")
    docker.run("manifest", "create", "--insecure", both, *parts).check()
    docker.run("manifest", "annotate", "--arch", "arm64", both, parts[1]).check()
    docker.run("manifest", "push", "--insecure", both).check()
    stored = served.stored(registry, "app", "both")
    for name in ("one", "two"):
        assert set(served.stored(registry, "app", name)) < set(stored)


def test_an_index_is_still_whole_after_one_of_its_tags_is_deleted(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    index = make_index(tmp_path / "index", "untagged-child")
    crane = log_in(Crane, registry.robot)
    crane.push(index, registry.image("app", "multi")).check()
    child = index.manifest()["manifests"][0]["digest"]
    crane.run("tag", registry.image("app", child), "only-amd64").check()
    regctl = log_in(Regctl, registry.robot)
    assert isinstance(regctl, Regctl)
    regctl.over_http(registry.robot.host)
    regctl.run("tag", "delete", registry.image("app", "only-amd64")).check()
    assert set(served.stored(registry, "app", "multi")) == index.digests
    tags = json.loads(served.manage("GET", f"/v1/registries/{registry.id}/images/app/tags").body)["data"]
    assert [tag["name"] for tag in tags] == ["multi"]
    kept = served.fetch(
        registry.robot, f"/v2/{registry.name}/app/manifests/multi", scope=f"repository:{registry.name}/app:pull"
    )
    assert kept.headers["Content-Type"] == INDEX
