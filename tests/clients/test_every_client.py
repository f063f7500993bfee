"""What every client does, with every client: log in, push, pull, be refused, push again, mount."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.clients import ALL, Client
from support.layouts import make_image
from support.recorder import record
from support.served import Account, Served, Tenant

pytestmark = pytest.mark.parametrize("kind", ALL, ids=[kind.name for kind in ALL])

Kind = type[Client]
Start = Callable[[Kind], Client]
LogIn = Callable[[Kind, Account], Client]
Create = Callable[..., Tenant]

REFUSALS = ("401", "403", "unauthorized", "denied", "authentication required", "unauthenticated")


def was_refused(output: str) -> bool:
    """Whether a client's output says that it was not allowed, rather than that something broke."""
    return any(word in output.lower() for word in REFUSALS) and "500" not in output


def uploads(requests: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The requests that carry a blob's bytes."""
    return [(method, path) for method, path in requests if "/blobs/uploads/" in path and method in {"PATCH", "PUT"}]


def test_push_and_pull_with_the_robots_password_are_bit_exact(
    kind: Kind, log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", f"exact-{kind.name}", layers=3)
    client = log_in(kind, registry.robot)
    target = registry.image("api", "v1")
    client.push(image, target).check()
    stored = served.stored(registry, "api", "v1")
    pulled = client.pull(target)
    assert pulled.config == image.config
    assert image.config in stored
    if pulled.manifest is not None:
        assert pulled.manifest == image.root
        assert set(stored) == image.digests


def test_a_wrong_password_is_refused(kind: Kind, start: Start, registry: Tenant, tmp_path: Path) -> None:
    client = start(kind)
    wrong = dataclasses.replace(registry.robot, password=registry.robot.password[:-8] + "AAAAAAAA")
    login = client.login(wrong)
    pull = client.try_pull(registry.image("api", "v1"))
    push = client.push(make_image(tmp_path / "image", "wrong"), registry.image("api", "v1"))
    assert kind.name == "crane" or not login.ok, (
        "crane only stores what it is given; every other client asks the registry"
    )
    assert not pull.ok
    assert not push.ok
    assert was_refused((login.output if not login.ok else "") + push.output), push.output


def test_a_private_registry_is_closed_to_everyone_without_a_login(
    kind: Kind, start: Start, log_in: LogIn, registry: Tenant, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", f"closed-{kind.name}")
    log_in(kind, registry.robot).push(image, registry.image("api", "v1")).check()
    pull = start(kind).try_pull(registry.image("api", "v1"))
    push = start(kind).push(image, registry.image("api", "v2"))
    assert not pull.ok
    assert was_refused(pull.output), pull.output
    assert not push.ok
    assert was_refused(push.output), push.output


def test_a_public_registry_is_pulled_without_a_login_and_not_pushed_to(
    kind: Kind, start: Start, log_in: LogIn, create: Create, served: Served, tmp_path: Path
) -> None:
    registry = create("open", public=True)
    image = make_image(tmp_path / "image", f"public-{kind.name}")
    log_in(kind, registry.robot).push(image, registry.image("api", "v1")).check()
    stranger = start(kind)
    assert stranger.pull(registry.image("api", "v1")).config == image.config
    push = stranger.push(make_image(tmp_path / "other", f"intruder-{kind.name}"), registry.image("api", "v1"))
    assert not push.ok
    assert was_refused(push.output), push.output
    assert image.config in served.stored(registry, "api", "v1")


def test_the_robot_of_another_registry_may_neither_pull_nor_push(
    kind: Kind, log_in: LogIn, create: Create, tmp_path: Path
) -> None:
    ours, theirs = create("ours"), create("theirs")
    image = make_image(tmp_path / "image", f"ours-{kind.name}")
    log_in(kind, ours.robot).push(image, ours.image("api", "v1")).check()
    intruder = log_in(kind, theirs.robot)
    pull = intruder.try_pull(ours.image("api", "v1"))
    assert not pull.ok
    assert was_refused(pull.output), pull.output
    push = intruder.push(image, ours.image("api", "v2"))
    assert not push.ok
    assert was_refused(push.output), push.output


def test_pushing_again_uploads_nothing(kind: Kind, log_in: LogIn, registry: Tenant, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", f"again-{kind.name}")
    with record(registry.robot.host) as recorder:
        robot = dataclasses.replace(registry.robot, host=recorder.host)
        target = dataclasses.replace(registry, robot=robot).image("api", "v1")
        client = log_in(kind, robot)
        client.push(image, target).check()
        assert uploads(recorder.requests), "the first push uploads the layers"
        recorder.clear()
        client.push(image, target).check()
        assert recorder.requests, "the client asked the registry"
        assert uploads(recorder.requests) == []


def test_a_second_repository_gets_the_layers_by_mounting(
    kind: Kind, log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", f"mount-{kind.name}")
    with record(registry.robot.host) as recorder:
        robot = dataclasses.replace(registry.robot, host=recorder.host)
        through = dataclasses.replace(registry, robot=robot)
        client = log_in(kind, robot)
        client.push(image, through.image("first", "v1")).check()
        recorder.clear()
        client.copy(through.image("first", "v1"), through.image("team/second", "v1")).check()
        requests = recorder.requests
    manifest = served.stored(registry, "team/second", "v1")
    assert image.config in manifest
    mounts = [path for method, path in requests if method == "POST" and "mount=" in path and "from=" in path]
    assert len(mounts) >= len(image.layers), requests
    # docker and the containers family upload the config, small and not a layer; nothing else travels.
    assert len({path.partition("?")[0] for _, path in uploads(requests)}) <= 1, requests


@pytest.mark.parametrize("image_name", ["app_1-x.y", "team/sub.dir/app__2--z"])
def test_names_with_dots_dashes_underscores_and_slashes(
    kind: Kind, image_name: str, log_in: LogIn, served: Served, names: Iterator[int], tmp_path: Path
) -> None:
    registry = served.create_registry(f"a.b-c_d.{next(names)}")
    image = make_image(tmp_path / "image", f"names-{kind.name}-{image_name.replace('/', '-')}")
    client = log_in(kind, registry.robot)
    client.push(image, registry.image(image_name, "V1.2_beta-3")).check()
    assert client.pull(registry.image(image_name, "V1.2_beta-3")).config == image.config


def test_the_administrators_token_is_a_password_for_everything(
    kind: Kind, log_in: LogIn, create: Create, served: Served, tmp_path: Path
) -> None:
    first, second = create("first"), create("second")
    image = make_image(tmp_path / "image", f"admin-{kind.name}")
    log_in(kind, first.robot).push(image, first.image("api", "v1")).check()
    admin = log_in(kind, served.admin)
    assert admin.pull(first.image("api", "v1")).config == image.config
    admin.push(image, second.image("api", "v1")).check()
    assert image.config in served.stored(second, "api", "v1")


def test_development_mode_needs_no_login_and_no_registry_made_beforehand(
    kind: Kind, start: Start, development: Served, tmp_path: Path
) -> None:
    image = make_image(tmp_path / "image", f"development-{kind.name}")
    client = start(kind)
    for name in (f"new-{kind.name}/team/app", f"alone-{kind.name}"):
        target = f"{development.host}/{name}:v1"
        client.push(image, target).check()
        assert client.pull(target).config == image.config
    listed = development.request("GET", "/v1/registries?per_page=100").json["data"]
    assert {f"new-{kind.name}", "library"} <= {registry["name"] for registry in listed}
