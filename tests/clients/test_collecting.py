"""Garbage collection beside real pushes: space comes back, nothing that was pushed is lost."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.clients import Client, Crane, Oras, Regctl, Skopeo
from support.layouts import Layout, make_image
from support.served import Account, Served, Tenant, serve

LogIn = Callable[[type[Client], Account], Client]

JOB_SECONDS = 60
PUSHERS = [Crane, Oras, Skopeo]
ROUNDS = 4
TRIES = 5


def collect(served: Served, registry: Tenant) -> dict[str, Any]:
    """Run a collection to its end; the job."""
    path = f"/v1/registries/{registry.id}/gc"
    started = served.manage("POST", path)
    assert started.status == 200, started.body
    deadline = time.monotonic() + JOB_SECONDS
    while True:
        job: dict[str, Any] = served.manage("GET", f"{path}/{started.json['data']['job_id']}").json["data"]
        if job["status"] != "running":
            assert job["status"] == "completed", job
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def bytes_on_disk(served: Served) -> int:
    return sum(path.stat().st_size for path in (served.root / "blobs").rglob("*") if path.is_file())


def test_a_collection_gives_back_the_space_of_what_was_deleted(log_in: LogIn, tmp_path: Path) -> None:
    size = 5_000_000
    with serve(tmp_path / "data") as served:
        registry = served.create_registry("my-images")
        client = log_in(Crane, registry.robot)
        kept = make_image(tmp_path / "kept", "collected-kept", layers=1, size=size)
        gone = make_image(tmp_path / "gone", "collected-gone", layers=2, size=size)
        client.push(kept, registry.image("api", "kept")).check()
        client.push(gone, registry.image("api", "gone")).check()
        client.run("delete", registry.image("api", gone.root)).check()
        before = bytes_on_disk(served)
        job = collect(served, registry)
        assert 2 * size < job["bytes_freed"] < 2.1 * size
        assert before - bytes_on_disk(served) == job["bytes_freed"]
        assert set(served.stored(registry, "api", "kept")) == kept.digests


@contextlib.contextmanager
def collecting(served: Served, registry: Tenant) -> Iterator[None]:
    """One collection after the other, in the background; at least one; AssertionError if one fails."""
    stop = threading.Event()

    def collect_until_stopped() -> None:
        collect(served, registry)
        while not stop.is_set():
            collect(served, registry)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(collect_until_stopped)
        try:
            yield
        finally:
            stop.set()
        running.result()


def delete(served: Served, registry: Tenant, image: Layout) -> None:
    path, scope = f"/v2/{registry.name}/api/manifests/{image.root}", f"repository:{registry.name}/api:delete"
    assert served.fetch(registry.robot, path, method="DELETE", scope=scope).status == 202


@pytest.mark.parametrize("kind", PUSHERS, ids=[kind.name for kind in PUSHERS])
def test_pushes_beside_collections_and_deletes_lose_nothing(
    kind: type[Client], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    """Each round deletes what the last one pushed and pushes it again, with collections running all the while: the
    client is told "it exists" of layers that nothing else holds."""
    image = make_image(tmp_path / "image", f"beside-{kind.name}", layers=3)
    client = log_in(kind, registry.robot)
    with collecting(served, registry):
        for number in range(ROUNDS):
            if number:
                delete(served, registry, image)
            client.push(image, registry.image("api", f"v{number}")).check()
            assert set(served.stored(registry, "api", f"v{number}")) == image.digests
    collect(served, registry)
    assert set(served.stored(registry, "api", f"v{ROUNDS - 1}")) == image.digests


def test_a_push_that_asked_as_a_reader_is_refused_or_arrives_whole(
    log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    """regctl asks "is it there?" with a token that may only pull, and so is promised nothing: a collection may take
    what it then does not upload. Its manifest is then refused, never stored with a hole, and trying again works."""
    image = make_image(tmp_path / "image", "beside-regctl", layers=3)
    client = log_in(Regctl, registry.robot)
    with collecting(served, registry):
        for number in range(ROUNDS):
            if number:
                delete(served, registry, image)
            target = registry.image("api", f"v{number}")
            push_until_taken(client, image, target)
            assert set(served.stored(registry, "api", f"v{number}")) == image.digests


def push_until_taken(client: Client, image: Layout, target: str) -> None:
    """Push, and again while it is refused for a layer that has gone; at most TRIES times."""
    for _ in range(TRIES - 1):
        pushed = client.push(image, target)
        if pushed.ok:
            return
        assert "MANIFEST_BLOB_UNKNOWN" in pushed.output, pushed.output
    client.push(image, target).check()
