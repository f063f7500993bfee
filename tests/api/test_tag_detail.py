"""GET …/tags/:tag: what a tag is, for which platforms, and what refers to it."""

import json

import pytest

from support.managing import call, make_registry, refusal
from support.pushing import (
    CONFIG,
    IMAGE,
    INDEX,
    LAYER,
    Pushed,
    Registry,
    descriptor,
    push_blob,
    push_image,
    push_manifest,
)

ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}
AMD = {"os": "linux", "architecture": "amd64"}


async def push_with_config(registry: Registry, config: bytes, tag: str | None = None) -> Pushed:
    await push_blob(registry, "my/api", config)
    document = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(config, CONFIG), "layers": []}
    return await push_manifest(registry, "my/api", document, tag)


async def test_a_tag_is_shown_with_everything_that_is_known_of_it(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    config = json.dumps({**AMD, "rootfs": {}}).encode()
    image = await push_with_config(guarded, config, "v1")
    signature = await push_image(
        guarded, "my/api", subject=image.descriptor, artifactType="application/vnd.signature", annotations={"by": "me"}
    )
    signed = [signature.document["config"], *signature.document["layers"]]  # goes with what it signs
    answer = await call(guarded, "GET", f"/registries/{identity}/images/api/tags/v1")
    assert (answer.status, answer.headers["ETag"]) == (200, f'"{image.digest}"')
    assert answer.json == {
        "data": {
            "name": "v1",
            "digest": image.digest,
            "size_bytes": len(config) + len(image.content),
            "pushed_at": answer.json["data"]["pushed_at"],
            "media_type": IMAGE,
            "artifact_type": CONFIG,
            "platforms": [AMD],
            "referrers": [
                {
                    "digest": signature.digest,
                    "media_type": IMAGE,
                    "artifact_type": "application/vnd.signature",
                    "size_bytes": len(signature.content),
                    "annotations": {"by": "me"},
                }
            ],
            "last_pulled": None,
            "reclaimable_bytes": len(config) + sum(blob["size"] for blob in signed),
        }
    }


async def test_an_index_is_for_the_platforms_of_its_entries_each_once(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    children = [await push_image(registry, "my/api") for _ in range(4)]
    platforms = [AMD, ARM, {"os": "unknown", "architecture": "unknown"}, AMD]
    listed = [{**child.descriptor, "platform": platform} for child, platform in zip(children, platforms, strict=True)]
    await push_manifest(registry, "my/api", {"schemaVersion": 2, "manifests": listed}, "v1", INDEX)
    data = (await call(registry, "GET", f"/registries/{identity}/images/api/tags/v1")).json["data"]
    assert data["platforms"] == [AMD, ARM]


UNREADABLE = (b"not json", b"[]", b"[" * 90_000, b'{"os": 7, "architecture": "arm64"}', b'{"os": "linux"}')


async def test_a_config_that_says_no_platform_leaves_the_list_empty(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    long = json.dumps({"os": "linux", "architecture": "a" * 65}).encode()
    for config in (*UNREADABLE, long, b" " * 2**20 + json.dumps(AMD).encode()):
        await push_with_config(registry, config, "v1")
        data = (await call(registry, "GET", f"/registries/{identity}/images/api/tags/v1")).json["data"]
        assert data["platforms"] == [], config[:40]


async def test_what_a_client_lists_under_the_fallback_tag_may_hold_anything(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    image = await push_image(registry, "my/api", "v1")
    odd = await push_image(registry, "my/api")
    entry = {"digest": odd.digest, "size": len(odd.content), "artifactType": 7, "annotations": ["x"]}
    tag = image.digest.replace(":", "-")
    await push_manifest(registry, "my/api", {"schemaVersion": 2, "manifests": [entry]}, tag, INDEX)
    data = (await call(registry, "GET", f"/registries/{identity}/images/api/tags/v1")).json["data"]
    assert data["referrers"] == [
        {
            "digest": odd.digest,
            "media_type": None,
            "artifact_type": None,
            "size_bytes": len(odd.content),
            "annotations": {},
        }
    ]


async def test_a_tag_whose_blobs_were_left_out_is_shown_without_platforms(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    layer = b"an artifact"
    await push_blob(registry, "my/api", layer)
    document = {"schemaVersion": 2, "layers": [descriptor(layer, LAYER)], "config": None}
    await push_manifest(registry, "my/api", document, "v1", "application/vnd.example.thing+json")
    data = (await call(registry, "GET", f"/registries/{identity}/images/api/tags/v1")).json["data"]
    assert (data["media_type"], data["platforms"]) == ("application/vnd.example.thing+json", [])


@pytest.mark.parametrize("path", ["api/tags/absent", "absent/tags/v1", "untagged/tags/v1", "api/tags/-x"])
async def test_a_tag_that_is_not_there_is_404(registry: Registry, path: str) -> None:
    identity = await make_registry(registry, "my")
    await push_image(registry, "my/api", "v1")
    await push_image(registry, "my/untagged")
    answer = await call(registry, "GET", f"/registries/{identity}/images/{path}")
    assert refusal(answer) == (404, "not_found")
