"""Garbage collection beside real pushes: space comes back, nothing that was pushed is lost."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.clients import Client, Crane, Oras, Regctl, Skopeo
from support.layouts import Layout, make_image
from support.served import Account, Served, Tenant, serve

LogIn = Callable[[type[Client], Account], Client]

JOB_SECONDS = 60
PUSHERS = [Crane, Oras, Regctl, Skopeo]
ROUNDS = 4


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


@pytest.mark.parametrize("kind", PUSHERS, ids=[kind.name for kind in PUSHERS])
def test_pushes_beside_collections_and_deletes_lose_nothing(
    kind: type[Client], log_in: LogIn, registry: Tenant, served: Served, tmp_path: Path
) -> None:
    """Each round deletes what the last one pushed and pushes it again, with collections running all the while: the
    client is told "it exists" of layers that nothing else holds."""
    image = make_image(tmp_path / "image", f"beside-{kind.name}", layers=3)
    client = log_in(kind, registry.robot)
    stop = threading.Event()

    def keep_collecting() -> int:
        jobs = 0
        while not stop.is_set() or jobs == 0:
            collect(served, registry)
            jobs += 1
        return jobs

    with ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(keep_collecting)
        try:
            for number in range(ROUNDS):
                push_and_check(client, served, registry, image, f"v{number}")
        finally:
            stop.set()
        assert collecting.result() > 0
    collect(served, registry)
    assert set(served.stored(registry, "api", f"v{ROUNDS - 1}")) == image.digests


def push_and_check(client: Client, served: Served, registry: Tenant, image: Layout, tag: str) -> None:
    """Push, prove it whole, then delete the manifest unless it is the last round's."""
    client.push(image, registry.image("api", tag)).check()
    assert set(served.stored(registry, "api", tag)) == image.digests
    if tag != f"v{ROUNDS - 1}":
        path = f"/v2/{registry.name}/api/manifests/{image.root}"
        scope = f"repository:{registry.name}/api:delete"
        assert served.fetch(registry.robot, path, method="DELETE", scope=scope).status == 202
