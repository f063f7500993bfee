"""What a tag named before, and how it names it again."""

from typing import Any

import pytest

from support.managing import call, collect, faults, make_registry, refusal
from support.pushing import Pushed, Registry, digest_of, push_image

TAG = "images/api/tags/v1"


async def history(registry: Registry, identity: str) -> list[Any]:
    answer = await call(registry, "GET", f"/registries/{identity}/{TAG}/history")
    assert answer.status == 200, answer
    return answer.json["data"]  # type: ignore[no-any-return]


async def pulls(registry: Registry, image: Pushed) -> bool:
    answer = await registry.send("GET", "/v2/my/api/manifests/v1")
    return answer.status == 200 and answer.body == image.content


async def test_history_names_every_change_and_who_made_it(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    one, two = [await push_image(guarded, "my/api", "v1") for _ in range(2)]
    await call(guarded, "DELETE", f"/registries/{identity}/{TAG}")
    events = await history(guarded, identity)
    assert [(event["action"], event["digest"], event["by"]) for event in events] == [
        ("deleted", None, "admin"),
        ("set", two.digest, "admin"),
        ("set", one.digest, "admin"),
    ]
    assert [event["restorable"] for event in events] == [False, True, True]
    assert all(event["restorable_until"].endswith("Z") for event in events[1:])


async def test_a_deleted_tag_comes_back(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    image = await push_image(guarded, "my/api", "v1")
    await call(guarded, "DELETE", f"/registries/{identity}/{TAG}")
    assert not await pulls(guarded, image)
    answer = await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore")
    assert (answer.status, answer.json) == (200, {"data": {"name": "v1", "digest": image.digest}})
    assert await pulls(guarded, image)
    assert (await collect(guarded, identity))["manifests_deleted"] == 0


async def test_a_moved_tag_goes_back_where_it_was_and_forth_again(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    one, two = [await push_image(guarded, "my/api", "v1") for _ in range(2)]
    for image in (one, two):
        assert (await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore")).status == 200
        assert await pulls(guarded, image)
    body = {"digest": one.digest}
    assert (await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore", body)).status == 200
    assert await pulls(guarded, one)


async def test_a_collection_that_is_asked_for_ends_the_undo(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/api", "v1")
    await call(guarded, "DELETE", f"/registries/{identity}/{TAG}")
    await collect(guarded, identity)
    assert refusal(await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore")) == (409, "not_restorable")
    assert [event["restorable"] for event in await history(guarded, identity)] == [False, False]


async def test_a_deleted_image_comes_back_with_the_tags_it_had(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/api", "early")
    await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/early")
    image = await push_image(guarded, "my/api", "v1")
    await push_image(guarded, "my/api", "v2")
    await call(guarded, "DELETE", f"/registries/{identity}/images/api")
    answer = await call(guarded, "POST", f"/registries/{identity}/images/api/restore")
    assert answer.json == {"data": {"name": "api", "restored": ["v1", "v2"], "failed": []}}
    assert await pulls(guarded, image)
    tags = (await guarded.send("GET", "/v2/my/api/tags/list")).json["tags"]
    assert tags == ["v1", "v2"], "what had been deleted before stays deleted"


async def test_what_a_tag_never_named_it_cannot_be_restored_to(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/api", "v1")
    other = await push_image(guarded, "my/api", "other")
    body = {"digest": other.digest}
    assert (await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore", body)).status == 404


@pytest.mark.parametrize("path", [f"{TAG}/restore", "images/api/restore"])
async def test_where_nothing_was_deleted_nothing_comes_back(guarded: Registry, path: str) -> None:
    identity = await make_registry(guarded, "my")
    assert (await call(guarded, "POST", f"/registries/{identity}/{path}")).status == 404
    await push_image(guarded, "my/api", "v1")
    assert (await call(guarded, "POST", f"/registries/{identity}/{path}")).status == 404


@pytest.mark.parametrize("digest", ["latest", "sha256:short", digest_of(b"x").upper()])
async def test_a_digest_that_is_none_is_refused(guarded: Registry, digest: str) -> None:
    identity = await make_registry(guarded, "my")
    answer = await call(guarded, "POST", f"/registries/{identity}/{TAG}/restore", {"digest": digest})
    assert faults(answer) == {("digest", "invalid_format")}
