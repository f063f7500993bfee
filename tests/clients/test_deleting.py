"""Deleting with the clients that can: by tag, by digest; what was deleted is gone, what was not is still there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Client, Crane, Oras, Regctl, Result, Skopeo
from support.layouts import Layout, make_image
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
Delete = Callable[[Client, Tenant, Layout], Result]


def by_skopeo(client: Client, registry: Tenant, image: Layout) -> Result:
    options = ("--tls-verify=false", "--authfile", client.home / "auth.json")
    return client.run("delete", *options, f"docker://{registry.image('api', 'v1')}")


def by_crane(client: Client, registry: Tenant, image: Layout) -> Result:
    return client.run("delete", registry.image("api", image.root))


def by_oras(client: Client, registry: Tenant, image: Layout) -> Result:
    assert isinstance(client, Oras)
    return client.registry("manifest", "delete", "--force", registry.image("api", image.root))


def by_regctl(client: Client, registry: Tenant, image: Layout) -> Result:
    return client.run("manifest", "delete", registry.image("api", image.root))


WAYS = [(Skopeo, by_skopeo), (Crane, by_crane), (Oras, by_oras), (Regctl, by_regctl)]


def push_two(client: Client, registry: Tenant, folder: Path) -> tuple[Layout, Layout]:
    """Images `api:v1` and `api:v2` that share nothing."""
    first, second = make_image(folder / "one", f"one-{client.name}"), make_image(folder / "two", f"two-{client.name}")
    client.push(first, registry.image("api", "v1")).check()
    client.push(second, registry.image("api", "v2")).check()
    return first, second


def tags_of(served: Served, registry: Tenant, image: str = "api") -> list[str]:
    answer = served.manage("GET", f"/v1/registries/{registry.id}/images/{image}/tags")
    return sorted(tag["name"] for tag in answer.json["data"]) if answer.status == 200 else []


@pytest.mark.parametrize(("kind", "delete"), WAYS, ids=[kind.name for kind, _ in WAYS])
def test_a_deleted_image_is_gone_and_its_neighbour_is_whole(
    kind: type[Client], delete: Delete, log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    first, second = push_two(client, registry, tmp_path)
    delete(client, registry, first).check()
    assert not client.try_pull(registry.image("api", "v1")).ok
    assert tags_of(served, registry) == ["v2"]
    assert client.pull(registry.image("api", "v2")).manifest == second.root
    assert set(served.stored(registry, "api", "v2")) == second.digests


@pytest.mark.parametrize(("kind", "delete"), WAYS, ids=[kind.name for kind, _ in WAYS])
def test_what_was_deleted_can_be_pushed_again(
    kind: type[Client], delete: Delete, log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    first, _ = push_two(client, registry, tmp_path)
    delete(client, registry, first).check()
    client.push(first, registry.image("api", "v1")).check()
    assert set(served.stored(registry, "api", "v1")) == first.digests


def test_regctl_deletes_one_tag_and_leaves_the_other_on_the_same_image(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    regctl = log_in(Regctl, registry.robot)
    image = make_image(tmp_path / "image", "two-tags")
    for tag in ("v1", "latest"):
        regctl.push(image, registry.image("api", tag)).check()
    regctl.run("tag", "delete", registry.image("api", "v1")).check()
    assert tags_of(served, registry) == ["latest"]
    assert regctl.run("tag", "ls", registry.image("api")).check().stdout.split() == ["latest"]
    assert regctl.pull(registry.image("api", "latest")).manifest == image.root


def test_the_rest_api_deletes_what_a_client_pushed(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    crane = log_in(Crane, registry.robot)
    crane.push(make_image(tmp_path / "image", "over-rest"), registry.image("team/api", "v1")).check()
    assert tags_of(served, registry, "team%2Fapi") == ["v1"]
    assert served.manage("DELETE", f"/v1/registries/{registry.id}/images/team%2Fapi/tags/v1").status == 204
    assert not crane.try_pull(registry.image("team/api", "v1")).ok
    assert served.manage("GET", f"/v1/registries/{registry.id}/images").json["data"] == []
