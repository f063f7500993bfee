"""end-3, 7, 7b, 9: manifests go out as they came in, under every name that was asked for."""

import json
from typing import Any

import pytest

from support.pushing import (
    CONFIG,
    IMAGE,
    INDEX,
    LAYER,
    Pushed,
    Registry,
    descriptor,
    digest_of,
    make_content,
    make_image,
    push_blob,
    push_image,
    push_index,
    push_manifest,
    put_manifest,
)

METHODS = pytest.mark.parametrize("method", ["GET", "HEAD"])
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def manifest(reference: str, repository: str = "a/b") -> str:
    return f"/v2/{repository}/manifests/{reference}"


async def is_stored(registry: Registry, pushed: Pushed, reference: str | None = None) -> bool:
    answer = await registry.send("GET", manifest(reference or pushed.digest))
    return (answer.status, answer.body) == (200, pushed.content)


@METHODS
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_end_3_a_manifest_is_answered_with_its_type_digest_and_length(
    registry: Registry, method: str, by: str
) -> None:
    image = await push_image(registry, "a/b", "v1")
    answer = await registry.send(method, manifest("v1" if by == "tag" else image.digest))
    assert (answer.status, answer.body) == (200, image.content if method == "GET" else b"")
    assert answer.headers["Content-Type"] == IMAGE
    assert answer.headers["Content-Length"] == str(len(image.content))
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert answer.headers["ETag"] == f'"{image.digest}"'


@METHODS
@pytest.mark.parametrize("reference", ["nothing", digest_of(b""), digest_of(b"", "sha512")])
async def test_end_3_what_is_not_there_is_unknown(registry: Registry, method: str, reference: str) -> None:
    await push_image(registry, "a/b", "v1")
    answer = await registry.send(method, manifest(reference))
    assert answer.status == 404
    assert method == "HEAD" or answer.code == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize(
    "reference", ["-x", ".x", "x" * 129, "sha256:x", "sha256:" + "A" * 64, "a:b", "a%2Fb", "%00", "%C3%BC"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_reference_that_is_none_is_unknown_to_who_reads(
    registry: Registry, method: str, reference: str
) -> None:
    await push_image(registry, "a/b", "v1")
    answer = await registry.send(method, manifest(reference))
    assert answer.refusal == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("reference", ["-x", ".x", "x" * 129, "a%2Fb", "%00", "%C3%BC"])
async def test_a_tag_that_is_none_is_refused_to_who_writes(registry: Registry, reference: str) -> None:
    answer = await put_manifest(registry, "a/b", reference, await make_image(registry, "a/b"))
    assert answer.refusal == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("reference", ["sha256:x", "a:b", "sha256:" + "A" * 64, "md5:" + "0" * 32, digest_of(b"other")])
async def test_a_digest_that_is_none_or_another_is_refused_to_who_writes(registry: Registry, reference: str) -> None:
    image = await make_image(registry, "a/b")
    answer = await put_manifest(registry, "a/b", reference, image)
    assert answer.refusal == (400, "DIGEST_INVALID")
    assert (await registry.send("GET", manifest(digest_of(json.dumps(image).encode())))).status == 404


@pytest.mark.parametrize("by", ["tag", "sha256", "sha512"])
async def test_end_7_put_answers_with_where_the_manifest_is(registry: Registry, by: str) -> None:
    document = await make_image(registry, "a/b")
    content = json.dumps(document).encode()
    digest = digest_of(content, "sha256" if by == "tag" else by)
    answer = await put_manifest(registry, "a/b", "v1" if by == "tag" else digest, content)
    assert answer.status == 201
    assert answer.headers["Location"] == manifest(digest)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert "OCI-Subject" not in answer.headers
    read = await registry.send("GET", answer.headers["Location"])
    assert (read.status, read.body, read.headers["Content-Type"]) == (200, content, IMAGE)


async def test_end_7b_put_tags_with_every_tag_of_the_query(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    tags = [f"t{number}" for number in range(25)]
    query = [("tag", tag) for tag in [*tags, "t0"]]
    answer = await put_manifest(registry, "a/b", digest_of(content), content, query=query)
    assert answer.status == 201
    assert answer.headers.getall("OCI-Tag") == tags
    listed = await registry.send("GET", "/v2/a/b/tags/list")
    assert listed.json["tags"] == sorted(tags)


async def test_end_7b_tags_of_the_query_come_beside_the_tag_of_the_path(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    answer = await put_manifest(registry, "a/b", "v1", content, query=[("tag", "v2")])
    assert answer.headers.getall("OCI-Tag") == ["v2"]
    listed = await registry.send("GET", "/v2/a/b/tags/list")
    assert listed.json["tags"] == ["v1", "v2"]


async def test_end_7b_more_tags_than_an_answer_can_name_are_refused(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    query = [("tag", f"t{number}") for number in range(101)]
    assert (await put_manifest(registry, "a/b", digest_of(content), content, query=query)).status == 400
    assert (await registry.send("GET", manifest("t0"))).status == 404


async def test_end_7b_one_bad_tag_of_many_leaves_nothing_behind(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    query = [("tag", "good"), ("tag", "-bad")]
    answer = await put_manifest(registry, "a/b", digest_of(content), content, query=query)
    assert answer.refusal == (400, "MANIFEST_INVALID")
    assert (await registry.send("GET", manifest("good"))).status == 404
    assert (await registry.send("GET", manifest(digest_of(content)))).status == 404


@pytest.mark.parametrize("present", [True, False])
async def test_end_7_a_subject_is_named_in_the_answer_there_or_not(registry: Registry, present: bool) -> None:
    subject = await push_image(registry, "a/b", "v1")
    named = subject.descriptor if present else {**subject.descriptor, "digest": digest_of(b"missing")}
    image = await push_image(registry, "a/b", "v2", subject=named)
    assert image.answer.headers["OCI-Subject"] == named["digest"]


@pytest.mark.parametrize("media_type", [IMAGE, DOCKER])
async def test_an_image_is_kept_byte_for_byte(registry: Registry, media_type: str) -> None:
    document = await make_image(registry, "a/b", layers=3, mediaType=media_type, unknown={"field": [1.5, "ü"]})
    content = b"\n" + json.dumps(document, indent=3, ensure_ascii=False).encode() + b"\n\n"
    assert (await put_manifest(registry, "a/b", "v1", content, media_type)).status == 201
    answer = await registry.send("GET", manifest("v1"))
    assert (answer.body, answer.headers["Content-Type"]) == (content, media_type)


@pytest.mark.parametrize("media_type", [INDEX, DOCKER_LIST])
async def test_an_index_lists_images_and_indexes(registry: Registry, media_type: str) -> None:
    images = [await push_image(registry, "a/b") for _ in range(2)]
    inner = await push_index(registry, "a/b", images)
    listed = [child.descriptor for child in (*images, inner)]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed}
    outer = await push_manifest(registry, "a/b", document, "all", media_type)
    answer = await registry.send("GET", manifest("all"))
    assert (answer.body, answer.headers["Content-Type"]) == (outer.content, media_type)


async def test_an_index_of_nothing_is_an_index(registry: Registry) -> None:
    assert await is_stored(registry, await push_index(registry, "a/b", [], "none"), "none")


async def test_an_artifact_of_the_empty_config_and_a_layer_that_is_the_same_blob(registry: Registry) -> None:
    await push_blob(registry, "a/b", b"{}")
    empty = descriptor(b"{}", EMPTY)
    document = {"schemaVersion": 2, "mediaType": IMAGE, "artifactType": "x/y", "config": empty, "layers": [empty]}
    assert await is_stored(registry, await push_manifest(registry, "a/b", document, "artifact"), "artifact")


async def test_an_unknown_media_type_is_kept(registry: Registry) -> None:
    document = {"some": "thing", "blobs": [descriptor(b"x", "a/b")]}
    await push_blob(registry, "a/b", b"x")
    pushed = await push_manifest(registry, "a/b", document, "odd", "application/vnd.example.v7+json")
    answer = await registry.send("GET", manifest("odd"))
    assert (answer.body, answer.headers["Content-Type"]) == (pushed.content, "application/vnd.example.v7+json")


async def test_parameters_of_the_content_type_are_ignored(registry: Registry) -> None:
    document = await make_image(registry, "a/b")
    assert (await put_manifest(registry, "a/b", "v1", document, IMAGE + "; charset=utf-8")).status == 201
    assert (await registry.send("GET", manifest("v1"))).headers["Content-Type"] == IMAGE


async def test_a_name_of_one_component_is_an_image_of_the_default_registry(registry: Registry) -> None:
    image = await push_image(registry, "alpine", "v1")
    assert image.answer.headers["Location"] == manifest(image.digest, "alpine")
    for name in ("alpine", "library/alpine"):
        assert (await registry.send("GET", manifest("v1", name))).body == image.content


async def test_accept_is_ignored(registry: Registry) -> None:
    image = await push_image(registry, "a/b", "v1")
    answer = await registry.send("GET", manifest("v1"), headers=[("Accept", INDEX), ("Accept", DOCKER)])
    assert (answer.body, answer.headers["Content-Type"]) == (image.content, IMAGE)


async def test_a_manifest_of_four_mebibytes_is_taken(registry: Registry) -> None:
    notes = {f"note{number}": "x" * 10_000 for number in range(430)}
    image = await push_image(registry, "a/b", "big", annotations=notes)
    assert len(image.content) > 4 * 2**20
    assert await is_stored(registry, image, "big")


@pytest.mark.parametrize("missing", ["config", "layer", "child"])
async def test_what_a_manifest_names_must_be_here(registry: Registry, missing: str) -> None:
    document = await make_image(registry, "a/b")
    absent = descriptor(make_content(), CONFIG if missing == "config" else LAYER)
    if missing == "config":
        document["config"] = absent
    elif missing == "layer":
        document["layers"].append(absent)
    else:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**absent, "mediaType": IMAGE}]}
    answer = await put_manifest(registry, "a/b", "v1", document, document["mediaType"])
    assert answer.refusal == (404, "MANIFEST_BLOB_UNKNOWN")
    assert absent["digest"] in answer.body.decode()
    assert (await registry.send("GET", manifest("v1"))).status == 404


async def test_a_layer_that_may_not_be_distributed_need_not_be_here(registry: Registry) -> None:
    foreign = descriptor(
        make_content(), "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["http://x/"]
    )
    document = await make_image(registry, "a/b")
    document["layers"].append(foreign)
    assert (await put_manifest(registry, "a/b", "v1", document)).status == 201


@METHODS
async def test_if_none_match_of_what_the_tag_names_is_answered_304(registry: Registry, method: str) -> None:
    image = await push_image(registry, "a/b", "v1")
    same = await registry.send(method, manifest("v1"), headers={"If-None-Match": f'"{image.digest}"'})
    other = await registry.send(method, manifest("v1"), headers={"If-None-Match": f'"{digest_of(b"")}"'})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", f'"{image.digest}"')
    assert other.status == 200


async def test_if_match_moves_a_tag_only_from_where_it_was_seen(registry: Registry) -> None:
    first, second = await push_image(registry, "a/b", "v1"), await make_image(registry, "a/b")
    stale = await put_manifest(registry, "a/b", "v1", second, headers={"If-Match": f'"{digest_of(b"")}"'})
    assert stale.status == 412
    assert await is_stored(registry, first, "v1")
    fresh = await put_manifest(registry, "a/b", "v1", second, headers={"If-Match": f'"{first.digest}"'})
    assert fresh.status == 201
    assert not await is_stored(registry, first, "v1")


@pytest.mark.parametrize("condition", ['W/"{}"', "{}", '"{}", "x"', '""'])
async def test_if_match_that_cannot_hold_changes_nothing(registry: Registry, condition: str) -> None:
    first, second = await push_image(registry, "a/b", "v1"), await make_image(registry, "a/b")
    headers = {"If-Match": condition.format(first.digest)}
    assert (await put_manifest(registry, "a/b", "v1", second, headers=headers)).status in (400, 412)
    assert await is_stored(registry, first, "v1")


async def test_if_match_of_anything_needs_a_tag_that_is_there(registry: Registry) -> None:
    document = await make_image(registry, "a/b")
    assert (await put_manifest(registry, "a/b", "v1", document, headers={"If-Match": "*"})).status == 412
    assert (await put_manifest(registry, "a/b", "v1", document)).status == 201
    assert (await put_manifest(registry, "a/b", "v1", document, headers={"If-Match": "*"})).status == 201


async def test_if_match_deletes_a_tag_only_from_where_it_was_seen(registry: Registry) -> None:
    image = await push_image(registry, "a/b", "v1")
    stale = await registry.send("DELETE", manifest("v1"), headers={"If-Match": f'"{digest_of(b"")}"'})
    assert stale.status == 412
    fresh = await registry.send("DELETE", manifest("v1"), headers={"If-Match": f'"{image.digest}"'})
    assert fresh.status == 202


async def test_end_9_deleting_a_tag_leaves_the_manifest_and_its_other_tags(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    digest = digest_of(content)
    await put_manifest(registry, "a/b", digest, content, query=[("tag", "v1"), ("tag", "v2")])
    assert (await registry.send("DELETE", manifest("v1"))).status == 202
    assert [(await registry.send("GET", manifest(name))).status for name in ("v1", "v2", digest)] == [404, 200, 200]
    assert (await registry.send("DELETE", manifest("v1"))).refusal == (404, "MANIFEST_UNKNOWN")


async def test_end_9_deleting_a_manifest_takes_all_its_tags_at_once(registry: Registry) -> None:
    content = json.dumps(await make_image(registry, "a/b")).encode()
    digest = digest_of(content)
    await put_manifest(registry, "a/b", digest, content, query=[("tag", "v1"), ("tag", "v2")])
    assert (await registry.send("DELETE", manifest(digest))).status == 202
    assert [(await registry.send("GET", manifest(name))).status for name in ("v1", "v2", digest)] == [404, 404, 404]
    assert (await registry.send("GET", "/v2/a/b/tags/list")).json["tags"] == []


async def test_end_9_a_manifest_that_an_index_lists_stays(registry: Registry) -> None:
    child = await push_image(registry, "a/b", "v1")
    index = await push_index(registry, "a/b", [child], "all")
    answer = await registry.send("DELETE", manifest(child.digest))
    assert answer.refusal == (405, "DENIED")
    assert index.digest in answer.body.decode()
    assert await is_stored(registry, child, "v1")


def invalid() -> list[Any]:
    """protocol.md, "Bad input gets": each would be read differently by different readers, or not at all."""
    good = descriptor(b"{}", EMPTY)
    image = {"schemaVersion": 2, "mediaType": IMAGE, "config": good, "layers": [good]}
    return [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"mediaType": "\\ud800"}',
        {**image, "config": {**good, "size": True}},
        {**image, "config": {**good, "size": -1}},
        {**image, "config": {**good, "size": 2.0}},
        {**image, "config": {**good, "size": 2**63}},
        {**image, "config": {**good, "size": "2"}},
        {**image, "config": {**good, "digest": "sha256:short"}},
        {**image, "config": {**good, "digest": 7}},
        {**image, "config": {**good, "digest": None}},
        {**image, "config": []},
        {**image, "layers": {}},
        {**image, "layers": ["x"]},
        {**image, "layers": [good, {**good, "size": 3}]},
        {**image, "mediaType": INDEX},
        {**image, "mediaType": ["x"]},
        {**image, "schemaVersion": 1},
        {**image, "subject": "x"},
        {**image, "annotations": {"a": 1}},
        {**image, "annotations": "x"},
        {**image, "artifactType": {"x": 1}},
        {"schemaVersion": 2, "mediaType": IMAGE, "layers": []},
    ]


@pytest.mark.parametrize("document", invalid(), ids=lambda document: repr(document)[:60])
async def test_a_manifest_that_is_not_sound_is_refused_and_not_stored(registry: Registry, document: Any) -> None:
    await push_blob(registry, "a/b", b"{}")
    answer = await put_manifest(registry, "a/b", "v1", document)
    assert answer.refusal == (400, "MANIFEST_INVALID")
    assert (await registry.send("GET", manifest("v1"))).status == 404


@pytest.mark.parametrize("media_type", ["a/b\\nX-Evil: 1", "a/b\\u0000", "", "ü/x", "a", "text/html, x/y"])
async def test_a_media_type_that_no_header_could_carry_is_refused(registry: Registry, media_type: str) -> None:
    content = f'{{"schemaVersion": 2, "mediaType": "{media_type}"}}'.encode()
    answer = await put_manifest(registry, "a/b", "v1", content, None)
    assert answer.refusal == (400, "MANIFEST_INVALID")


async def test_docker_schema_1_is_refused_in_words(registry: Registry) -> None:
    answer = await put_manifest(
        registry, "a/b", "v1", {"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
    assert answer.refusal == (400, "MANIFEST_INVALID")
    assert "schema 1" in answer.json["errors"][0]["message"]
