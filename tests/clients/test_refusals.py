"""What people read when they are refused: the registry's own words; and who mistypes a password harms nobody else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Client, Crane, Docker, Podman
from support.layouts import make_image
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
WRONG_LOGINS = 12  # more than the limit of 20 allows, where each of them is two attempts


def limited(served: Served, registry: Tenant, quota_bytes: int) -> None:
    body = {"quota": {"storage_gb": quota_bytes / 2**30}}
    assert served.manage("PATCH", f"/v1/registries/{registry.id}", body).status == 200


@pytest.mark.parametrize("kind", [Docker, Podman, Crane], ids=lambda kind: kind.name)
def test_a_push_beyond_the_quota_says_what_is_used_and_what_is_needed(
    kind: type[Client], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    client = log_in(kind, registry.robot)
    limited(served, registry, 1000)
    pushed = client.push(make_image(tmp_path / "image", f"too-large-{kind.name}"), registry.image("api", "v1"))
    assert not pushed.ok
    assert "quota exceeded" in pushed.output
    assert " of 1000 bytes are used and " in pushed.output
    assert "more are needed" in pushed.output
    if kind is Docker:
        assert "denied: quota exceeded" in pushed.output


def test_an_image_that_is_there_is_pushed_under_another_name_though_nothing_is_free(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", "twice")
    log_in(Crane, registry.robot).push(image, registry.image("api", "v1")).check()
    used = served.manage("GET", f"/v1/registries/{registry.id}").json["data"]["storage_bytes"]
    limited(served, registry, used + 2000)  # for the manifest, which each image has of its own
    log_in(Crane, registry.robot).push(image, registry.image("web", "v1")).check()
    assert served.manage("GET", f"/v1/registries/{registry.id}").json["data"]["storage_bytes"] < used + 2000


def test_who_types_wrong_passwords_locks_nobody_else_out(
    log_in: LogIn, start: Callable[[type[Client]], Client], create: Callable[..., Tenant]
) -> None:
    mine, other = create(), create()
    wrong = dataclasses.replace(mine.robot, password="wrong")
    mistyping = start(Docker)
    for _ in range(WRONG_LOGINS):
        assert not mistyping.login(wrong).ok
    assert log_in(Docker, other.robot).name == "docker"
