"""Collections beside pulls, by schedule, and cancelled, over the API."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from regserver.content import collector as collecting
from regserver.content.collector import Collector
from regserver.content.schedule import CollectionSchedule
from support.managing import call, collect, ended, make_registry, refusal, services_of
from support.pushing import Registry, push_blob, push_image
from support.registry import ADMIN, served_app

STREAMED = 48 * 2**20  # more than every buffer between the two ends


def stored_bytes(root: Path) -> int:
    return sum(file.stat().st_size for file in (root / "blobs").rglob("*") if file.is_file())


@pytest.mark.parametrize("headers", [{}, {"Range": f"bytes=1000-{STREAMED - 1}"}], ids=["whole", "range"])
async def test_a_pull_that_streams_while_its_blob_is_collected_ends_bit_exact(
    guarded: Registry, root: Path, headers: dict[str, str]
) -> None:
    identity = await make_registry(guarded, "my")
    content = os.urandom(STREAMED)
    await push_image(guarded, "my/api", "v1")
    digest = await push_blob(guarded, "my/api", content)
    url = f"/v2/my/api/blobs/{digest}"
    async with guarded.client.get(url, headers={"Authorization": ADMIN, **headers}) as pull:
        received = hashlib.sha256(first := await pull.content.readexactly(100_000))
        assert (await guarded.send("DELETE", url)).status == 202
        await call(guarded, "DELETE", f"/registries/{identity}/images/api")
        job = await collect(guarded, identity)
        assert (job["status"], job["blobs_deleted"]) == ("completed", 3)
        assert stored_bytes(root) == 0
        assert (await guarded.send("GET", url)).refusal == (404, "BLOB_UNKNOWN")
        count = len(first)
        async for chunk in pull.content.iter_any():
            received.update(chunk)
            count += len(chunk)
    wanted = content[1000:] if headers else content
    assert (count, received.hexdigest()) == (len(wanted), hashlib.sha256(wanted).hexdigest())


async def test_a_job_is_cancelled_and_says_by_whom(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = await make_registry(guarded, "my")
    for tag in ("v1", "v2", "v3"):
        await push_image(guarded, "my/api", tag)
    await call(guarded, "DELETE", f"/registries/{identity}/images/api")
    monkeypatch.setattr(collecting, "BATCH", 1)
    reached, go_on = asyncio.Event(), asyncio.Event()
    drop_links = Collector._drop_links

    async def held(self: Collector, registry_id: str, tell: collecting.Listener) -> int:
        reached.set()
        await go_on.wait()
        return await drop_links(self, registry_id, tell)

    monkeypatch.setattr(Collector, "_drop_links", held)
    started = (await call(guarded, "POST", f"/registries/{identity}/gc")).json["data"]
    await reached.wait()
    path = f"/registries/{identity}/gc/{started['job_id']}"
    running = (await call(guarded, "GET", path)).json["data"]
    assert (running["status"], running["manifests_deleted"]) == ("running", 3)
    cancelled = await call(guarded, "POST", f"{path}/cancel")
    assert cancelled.status == 200
    go_on.set()
    job = await ended(guarded, identity, started["job_id"])
    assert (job["status"], job["cancelled_by"], job["manifests_deleted"]) == ("failed", "admin", 3)
    assert job["error"].startswith("cancelled")
    assert (await call(guarded, "POST", f"{path}/cancel")).json["data"] == job
    after = await collect(guarded, identity)
    assert (after["status"], after["manifests_deleted"]) == ("completed", 0)
    assert "cancelled_by" not in after


async def test_only_a_job_of_the_registry_can_be_cancelled(guarded: Registry) -> None:
    mine, other = await make_registry(guarded, "a"), await make_registry(guarded, "b")
    job = await collect(guarded, mine)
    for path in (f"{other}/gc/{job['job_id']}", f"{mine}/gc/gc_{'0' * 26}", f"{mine}/gc/x"):
        assert refusal(await call(guarded, "POST", f"/registries/{path}/cancel")) == (404, "not_found")


async def test_the_list_shows_what_the_schedule_collected_and_undo_is_still_there(root: Path) -> None:
    async with served_app(root, collect_interval_seconds=1) as client:
        guarded = Registry(client, ADMIN)
        identity = await make_registry(guarded, "my")
        await push_image(guarded, "my/api", "v1")
        await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/v1")
        services = services_of(guarded)
        schedule = CollectionSchedule(services.core, Collector(services.core), services.jobs, pause=0)
        stop = asyncio.Event()
        running = asyncio.create_task(schedule.run(stop))
        while not (listed := (await call(guarded, "GET", f"/registries/{identity}/gc")).json["data"]):
            pass
        stop.set()
        await running
        assert listed[-1]["started_by"] == "schedule"
        restored = await call(guarded, "POST", f"/registries/{identity}/images/api/tags/v1/restore")
        assert restored.status == 200
        assert (await guarded.send("GET", "/v2/my/api/manifests/v1")).status == 200
