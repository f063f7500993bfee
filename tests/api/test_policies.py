"""A registry's policy on every way to a tag: /v2, /v1, undo and the collector, one request or many at once."""

from __future__ import annotations

import asyncio
from typing import Any

from support.managing import call, collect, faults, make_registry, refusal
from support.pushing import Pushed, Registry, make_image, push_image, push_manifest, put_manifest

IMMUTABLE = {"policy": {"immutable_tags": {"patterns": ["v*"], "except": ["vx"]}}}
V1 = "/v2/my/api/manifests/v1"


async def protect(admin: Registry) -> tuple[str, Pushed]:
    """A registry whose ``api:v1`` is immutable: (its id, the image)."""
    registry_id = await make_registry(admin, "my")
    image = await push_image(admin, "my/api", "v1")
    await set_policy(admin, registry_id, IMMUTABLE)
    return registry_id, image


async def set_policy(admin: Registry, registry_id: str, changes: dict[str, Any]) -> None:
    answer = await call(admin, "PATCH", f"/registries/{registry_id}", changes)
    assert answer.status == 200, answer


async def test_docker_is_told_which_tag_is_immutable_and_why(guarded: Registry) -> None:
    _, _ = await protect(guarded)
    refused = await put_manifest(guarded, "my/api", "v1", await make_image(guarded, "my/api"))
    assert refused.refusal == (403, "DENIED")
    message = refused.json["errors"][0]["message"]
    assert "v1" in message and "v*" in message


async def test_a_push_of_the_same_image_to_an_immutable_tag_is_done_already(guarded: Registry) -> None:
    _, image = await protect(guarded)
    assert (await put_manifest(guarded, "my/api", "v1", image.content)).status == 201


async def test_no_request_moves_or_deletes_an_immutable_tag(guarded: Registry) -> None:
    registry_id, image = await protect(guarded)
    other = await make_image(guarded, "my/api")
    images = f"/registries/{registry_id}/images/api"
    assert (await put_manifest(guarded, "my/api", "new", other, query=[("tag", "v1")])).refusal == (403, "DENIED")
    assert (await guarded.send("GET", "/v2/my/api/manifests/new")).status == 404, "half of a push was kept"
    assert (await guarded.send("DELETE", V1)).refusal == (403, "DENIED")
    assert (await guarded.send("DELETE", f"/v2/my/api/manifests/{image.digest}")).refusal == (403, "DENIED")
    assert refusal(await call(guarded, "DELETE", f"{images}/tags/v1")) == (403, "denied")
    assert refusal(await call(guarded, "DELETE", images)) == (403, "denied")
    await collect(guarded, registry_id)
    assert (await guarded.send("GET", V1)).body == image.content


async def test_an_exception_is_no_immutable_tag(guarded: Registry) -> None:
    await protect(guarded)
    await push_manifest(guarded, "my/api", await make_image(guarded, "my/api"), "vx")
    await push_manifest(guarded, "my/api", await make_image(guarded, "my/api"), "vx")
    assert (await guarded.send("DELETE", "/v2/my/api/manifests/vx")).status == 202


async def test_undo_moves_no_immutable_tag(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "my")
    for _ in range(2):
        await push_image(guarded, "my/api", "v1")
    await set_policy(guarded, registry_id, IMMUTABLE)
    answer = await call(guarded, "POST", f"/registries/{registry_id}/images/api/tags/v1/restore")
    assert refusal(answer) == (403, "denied")


async def test_a_registry_goes_with_its_immutable_tags_where_somebody_insists(guarded: Registry) -> None:
    registry_id, _ = await protect(guarded)
    assert (await call(guarded, "DELETE", f"/registries/{registry_id}")).status == 409
    assert (await call(guarded, "DELETE", f"/registries/{registry_id}", query={"force": "true"})).status == 204


async def test_many_at_once_move_no_immutable_tag(guarded: Registry) -> None:
    registry_id, image = await protect(guarded)
    others = [await make_image(guarded, "my/api") for _ in range(4)]
    answers = await asyncio.gather(
        *[put_manifest(guarded, "my/api", "v1", other) for other in others],
        guarded.send("DELETE", V1),
        guarded.send("DELETE", f"/v2/my/api/manifests/{image.digest}"),
        call(guarded, "DELETE", f"/registries/{registry_id}/images/api"),
    )
    assert {answer.status for answer in answers} == {403}


async def test_of_many_who_make_an_immutable_tag_at_once_one_does(guarded: Registry) -> None:
    await protect(guarded)
    others = [await make_image(guarded, "my/api") for _ in range(4)]
    answers = await asyncio.gather(*[put_manifest(guarded, "my/api", "v2", other) for other in others])
    assert sorted(answer.status for answer in answers) == [201, 403, 403, 403]


async def test_a_policy_is_shown_as_it_was_set(guarded: Registry) -> None:
    registry_id, _ = await protect(guarded)
    await set_policy(guarded, registry_id, {"policy": {"retention": {"keep_last": 3, "keep_tags": ["lts-*"]}}})
    shown = (await call(guarded, "GET", f"/registries/{registry_id}")).json["data"]["policy"]
    assert shown == {
        "immutable_tags": {"patterns": ["v*"], "except": ["vx"]},
        "retention": {"keep_last": 3, "keep_days": None, "keep_tags": ["lts-*"]},
        "keep_untagged": False,
    }


async def test_retention_without_a_rule_is_refused(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "my")
    changes = {"policy": {"retention": {"keep_tags": ["a"]}}}
    answer = await call(guarded, "PATCH", f"/registries/{registry_id}", changes)
    assert faults(answer) == {("policy.retention", "required")}


async def test_a_dry_run_names_what_would_go_first_and_does_nothing(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "my")
    for tag in ("a", "b"):
        await push_image(guarded, "my/api", tag)
    tried = {"policy": {"retention": {"keep_last": 1, "keep_days": None, "keep_tags": None}}}
    answer = await call(guarded, "POST", f"/registries/{registry_id}/retention/dry-run", tried)
    assert answer.status == 200, answer
    assert [(row["tag"], row["action"]) for row in answer.json["data"]] == [("a", "delete"), ("b", "keep")]
    assert answer.json["meta"]["total"] == 2
    assert all(row["reason"] for row in answer.json["data"])
    assert (await guarded.send("GET", "/v2/my/api/tags/list")).json["tags"] == ["a", "b"]
    shown = (await call(guarded, "GET", f"/registries/{registry_id}")).json["data"]["policy"]
    assert shown["retention"] is None
