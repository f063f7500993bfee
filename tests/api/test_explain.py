"""What would go, what would come back, and why something stays: asked over /v1, held against what then happens."""

from typing import Any

import pytest

from support.managing import call, collect, faults, make_registry
from support.pushing import Registry, digest_of, push_blob, push_image, push_manifest


async def get(registry: Registry, path: str) -> Any:
    answer = await call(registry, "GET", path)
    assert answer.status == 200, answer
    return answer.json["data"]


async def test_a_dry_run_names_what_the_collection_then_takes(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    gone = await push_image(guarded, "my/gone", "v1", layers=2)
    await push_image(guarded, "my/kept", "v1")
    await call(guarded, "DELETE", f"/registries/{identity}/images/gone")
    dry = (await call(guarded, "POST", f"/registries/{identity}/gc", {"dry_run": True})).json["data"]
    assert (dry["status"], dry["dry_run"]) == ("completed", True)
    items = await get(guarded, f"/registries/{identity}/gc/{dry['job_id']}/report")
    blobs = {blob["digest"] for blob in [gone.document["config"], *gone.document["layers"]]}
    assert {item["digest"] for item in items} == {gone.digest, *blobs}
    assert {item["kind"] for item in items if item["digest"] == gone.digest} == {"manifest"}
    assert all(item["reason"] for item in items)
    assert (await guarded.send("GET", f"/v2/my/gone/manifests/{gone.digest}")).status == 200, "nothing was changed"
    job = await collect(guarded, identity)
    for count in ("bytes_freed", "blobs_deleted", "manifests_deleted"):
        assert job[count] == dry[count] > 0
    assert "dry_run" not in job


async def test_a_report_has_pages(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/gone", "v1", layers=4)
    await call(guarded, "DELETE", f"/registries/{identity}/images/gone")
    dry = (await call(guarded, "POST", f"/registries/{identity}/gc", {"dry_run": True})).json["data"]
    path = f"/registries/{identity}/gc/{dry['job_id']}/report"
    pages = [(await call(guarded, "GET", f"{path}?per_page=2&page={page}")).json for page in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [2, 2, 2, 0]
    assert {page["meta"]["total"] for page in pages} == {6}
    assert len({item["digest"] for page in pages for item in page["data"]}) == 6


async def test_reclaimable_bytes_come_back(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    one = await push_image(guarded, "my/api", "one", layers=2)
    both = {**one.document, "layers": one.document["layers"][:1], "annotations": {"shares": "a layer and the config"}}
    await push_manifest(guarded, "my/api", both, "two")
    image = await get(guarded, f"/registries/{identity}/images/api")
    tag = await get(guarded, f"/registries/{identity}/images/api/tags/one")
    await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/one")
    first = (await collect(guarded, identity))["bytes_freed"]
    assert first == tag["reclaimable_bytes"] == one.document["layers"][1]["size"]
    await call(guarded, "DELETE", f"/registries/{identity}/images/api")
    assert first + (await collect(guarded, identity))["bytes_freed"] == image["reclaimable_bytes"]


async def test_an_explanation_shows_the_way_from_the_tag(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    image = await push_image(guarded, "my/team/api", "v1")
    layer = image.document["layers"][0]["digest"]
    assert await get(guarded, f"/registries/{identity}/explain/{layer}") == {
        "digest": layer,
        "kind": "blob",
        "kept": True,
        "reason": "tag",
        "image": "team/api",
        "path": ["v1", image.digest, layer],
        "until": None,
    }


async def test_a_blob_in_flight_is_explained_by_its_lease(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    digest = await push_blob(guarded, "my/api")
    answer = await get(guarded, f"/registries/{identity}/explain/{digest}")
    assert (answer["reason"], answer["kept"]) == ("lease", True)
    assert answer["until"].endswith("Z")


@pytest.mark.parametrize("digest", [digest_of(b"nowhere"), "sha256:short", "latest"])
async def test_what_is_not_here_is_not_explained(guarded: Registry, digest: str) -> None:
    identity = await make_registry(guarded, "my")
    assert (await call(guarded, "GET", f"/registries/{identity}/explain/{digest}")).status == 404


async def test_dry_run_is_true_or_false(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    answer = await call(guarded, "POST", f"/registries/{identity}/gc", {"dry_run": "yes"})
    assert faults(answer) == {("dry_run", "wrong_type")}


async def test_an_image_that_is_not_there_is_not_found(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    assert (await call(guarded, "GET", f"/registries/{identity}/images/api")).status == 404
