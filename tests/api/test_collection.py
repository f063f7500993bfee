"""Garbage collection over /v1: triggered, watched, listed, resumed."""

import asyncio
import re
from pathlib import Path

import pytest

from regserver.model.ids import new_id
from regserver.storage.catalog import jobs
from regserver.storage.sql.port import Transaction
from support.managing import PATIENCE_SECONDS, call, collect, ended, faults, make_registry, refusal, services_of
from support.pushing import Registry, push_blob, push_image
from support.registry import ADMIN, served_app

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
JOB = re.compile(r"gc_[0-9a-v]{26}")


def stored_bytes(root: Path) -> int:
    return sum(file.stat().st_size for file in (root / "blobs").rglob("*") if file.is_file())


@pytest.mark.parametrize("document", [None, {}])
async def test_trigger_answers_exactly_what_is_documented(guarded: Registry, document: object) -> None:
    identity = await make_registry(guarded, "a")
    answer = await call(guarded, "POST", f"/registries/{identity}/gc", document)
    data = answer.json["data"]
    assert answer.status == 200
    assert answer.json == {"data": {"job_id": data["job_id"], "status": "running", "started_at": data["started_at"]}}
    assert JOB.fullmatch(data["job_id"])
    assert TIME.fullmatch(data["started_at"])


async def test_status_shows_what_is_documented_once_the_job_has_completed(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    job = await collect(guarded, identity)
    assert TIME.fullmatch(job["completed_at"])
    assert job == {
        "job_id": job["job_id"],
        "status": "completed",
        "phase": "done",
        "progress": {"done": job["progress"]["total"], "total": job["progress"]["total"]},
        "bytes_freed": 0,
        "blobs_deleted": 0,
        "manifests_deleted": 0,
        "held": [],
        "started_by": "admin",
        "started_at": job["started_at"],
        "completed_at": job["completed_at"],
    }


async def test_a_collection_frees_what_a_deleted_image_held_and_counts_it(guarded: Registry, root: Path) -> None:
    identity = await make_registry(guarded, "my")
    kept = await push_image(guarded, "my/kept", "v1")
    await push_image(guarded, "my/gone", "v1", layers=3)
    before = stored_bytes(root)
    await call(guarded, "DELETE", f"/registries/{identity}/images/gone")
    job = await collect(guarded, identity)
    assert (job["blobs_deleted"], job["manifests_deleted"]) == (4, 1)
    assert job["bytes_freed"] == before - stored_bytes(root) > 0
    data = (await call(guarded, "GET", f"/registries/{identity}")).json["data"]
    blobs = [kept.document["config"], *kept.document["layers"]]
    assert data["storage_bytes"] == sum(blob["size"] for blob in blobs) + len(kept.content)
    assert (await guarded.send("GET", "/v2/my/kept/manifests/v1")).body == kept.content


async def test_a_job_says_what_a_push_in_flight_still_holds(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    digest = await push_blob(guarded, "my/api")
    job = await collect(guarded, identity)
    assert [(held["image"], held["digest"]) for held in job["held"]] == [("api", digest)]
    assert 0 < job["held"][0]["seconds"] <= 7200 + 180
    assert (await guarded.send("HEAD", f"/v2/my/api/blobs/{digest}")).status == 200


async def test_a_job_is_found_only_in_its_registry(guarded: Registry) -> None:
    mine, other = await make_registry(guarded, "a"), await make_registry(guarded, "b")
    job = await collect(guarded, mine)
    for path in (f"{other}/gc/{job['job_id']}", f"{mine}/gc/gc_{'0' * 26}", f"{mine}/gc/gc_abc123", f"{mine}/gc/x"):
        assert refusal(await call(guarded, "GET", f"/registries/{path}")) == (404, "not_found"), path


async def test_jobs_are_listed_the_newest_first(guarded: Registry) -> None:
    identity, other = await make_registry(guarded, "a"), await make_registry(guarded, "b")
    ran = [await collect(guarded, identity) for _ in range(3)]
    await collect(guarded, other)
    answer = await call(guarded, "GET", f"/registries/{identity}/gc", query={"per_page": "2"})
    assert answer.json == {"data": ran[:0:-1], "meta": {"total": 3, "page": 1, "per_page": 2}}
    assert 'rel="next"' in answer.headers["Link"]
    past = await call(guarded, "GET", f"/registries/{identity}/gc", query={"page": "9"})
    assert past.json == {"data": [], "meta": {"total": 3, "page": 9, "per_page": 20}}


async def test_trigger_takes_no_field_that_it_does_not_know_and_then_starts_nothing(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    answer = await call(guarded, "POST", f"/registries/{identity}/gc", {"colour": 1})
    assert faults(answer) == {("colour", "unknown_field")}
    assert (await call(guarded, "GET", f"/registries/{identity}/gc")).json["meta"]["total"] == 0


async def test_a_job_that_ran_when_the_server_ended_completes_after_its_restart(root: Path) -> None:
    job_id = new_id("gc")
    async with served_app(root) as client:
        guarded = Registry(client, ADMIN)
        identity = await make_registry(guarded, "my")
        await push_image(guarded, "my/gone", "v1")
        await call(guarded, "DELETE", f"/registries/{identity}/images/gone")

        async def begin(tx: Transaction) -> None:
            await jobs.insert_or_running(tx, job_id, identity, 1, by="admin")

        await services_of(guarded).core.db.write(begin)
    async with served_app(root) as client:
        job = await ended(Registry(client, ADMIN), identity, job_id)
    assert (job["status"], job["blobs_deleted"]) == ("completed", 2)


async def test_the_space_of_a_deleted_registry_comes_back_by_itself(guarded: Registry, root: Path) -> None:
    await push_image(guarded.seen_by(await guarded.make_robot("a")), "a/b", "v1", layers=2)
    kept = await make_registry(guarded, "kept")
    identity = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    assert stored_bytes(root) > 0
    await call(guarded, "DELETE", f"/registries/{identity}", query={"force": "true"})
    database = services_of(guarded).core.db
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await database.fetch("SELECT id FROM registries WHERE status = 'deleting'"):
            assert (await call(guarded, "GET", f"/registries/{kept}")).status == 200
    assert stored_bytes(root) == 0
