"""Advisories against other registries that became rules of this one, over HTTP; each test names its source.

Those on keys and algorithms of tokens, on comparing times and on default passwords stand with the code they bind.
"""

import json
from typing import Any

import pytest

from regserver.content.registries import Changes
from regserver.web.context import SERVICES
from support.pushing import (
    IMAGE,
    INDEX,
    Answer,
    Registry,
    digest_of,
    draw_token,
    id_of,
    make_content,
    make_image,
    push_blob,
    push_image,
    put_manifest,
    start_upload,
)


async def set_public(registry: Registry, name: str, public: bool) -> None:
    services = registry.client.app[SERVICES]  # type: ignore[index]
    await services.registries.update(await id_of(registry, name), Changes(public=public))


@pytest.mark.parametrize("path", ["/v2/one/app/tags/list", "/v2/_catalog"])
async def test_cve_2023_2253_a_huge_n_takes_no_more_than_a_page(guarded: Registry, path: str) -> None:
    await guarded.make_robot("one")
    content = json.dumps(await make_image(guarded, "one/app")).encode()
    for start in range(0, 1100, 100):
        query = [("tag", f"t{number:04}") for number in range(start, start + 100)]
        assert (await put_manifest(guarded, "one/app", digest_of(content), content, query=query)).status == 201
    answer = await guarded.send("GET", path + "?n=999999999")
    assert answer.status == 200
    assert max(len(value) for value in answer.json.values() if isinstance(value, list)) <= 1000
    assert (await guarded.send("GET", path + "?n=1000000000")).refusal == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.parametrize("origin", ["two/private", "two/missing", "three/missing", None])
async def test_cve_2024_39897_no_mount_of_what_the_account_may_not_pull(guarded: Registry, origin: str | None) -> None:
    one, _ = await guarded.make_robot("one"), await guarded.make_robot("two")
    content = make_content()
    digest = await push_blob(guarded, "two/private", content)
    robot = guarded.seen_by(one)
    query = {"mount": digest} | ({"from": origin} if origin else {})
    answer = await robot.send("POST", "/v2/one/app/blobs/uploads/", query=query)
    assert answer.status == 202
    assert (await robot.send("GET", f"/v2/one/app/blobs/{digest}")).refusal == (404, "BLOB_UNKNOWN")


async def test_cve_2024_39897_a_refused_source_is_not_made_up_for_by_another(guarded: Registry) -> None:
    one, _ = await guarded.make_robot("one"), await guarded.make_robot("two")
    digest = await push_blob(guarded.seen_by(one), "one/other")
    query = {"mount": digest, "from": "two/private"}
    assert (await guarded.seen_by(one).send("POST", "/v2/one/app/blobs/uploads/", query=query)).status == 202


async def test_cve_2024_39897_a_refused_source_and_a_missing_blob_look_alike(guarded: Registry) -> None:
    one, _ = await guarded.make_robot("one"), await guarded.make_robot("two")
    await push_blob(guarded, "two/private", b"private")
    robot = guarded.seen_by(one)
    answers = [
        await robot.send("POST", "/v2/one/app/blobs/uploads/", query={"mount": digest_of(blob), "from": origin})
        for blob, origin in ((b"private", "two/private"), (b"missing", "two/private"), (b"missing", "one/app"))
    ]
    assert len({(answer.status, answer.body, tuple(sorted(answer.headers))) for answer in answers}) == 1


async def test_cve_2024_39897_a_token_for_the_target_mounts_what_its_account_may_pull(guarded: Registry) -> None:
    one, _ = await guarded.make_robot("one"), await guarded.make_robot("open", public=True)
    digest = await push_blob(guarded, "open/base")
    bearer = await draw_token(guarded.seen_by(one), "repository:one/app:pull,push")
    query = {"mount": digest, "from": "open/base"}
    assert (await guarded.seen_by(bearer).send("POST", "/v2/one/app/blobs/uploads/", query=query)).status == 201


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_cve_2026_32589_an_upload_session_of_another_is_unknown(guarded: Registry, method: str) -> None:
    robot = guarded.seen_by(await guarded.make_robot("one"))
    content = make_content()
    location = await start_upload(robot, "one/app")
    await robot.send("PATCH", location, data=content[:50])
    answer = await guarded.send(method, location, data=content, query={"digest": digest_of(content)})
    assert answer.refusal == (404, "BLOB_UPLOAD_UNKNOWN")
    assert (await robot.send("GET", location)).headers["Range"] == "0-49"


async def test_cve_2026_35172_nothing_deleted_is_answered_from_memory(guarded: Registry) -> None:
    await guarded.make_robot("one")
    image = await push_image(guarded, "one/app", "v1")
    layer = image.document["layers"][0]["digest"]
    paths = ["manifests/v1", f"manifests/{image.digest}", f"blobs/{layer}"]
    for path in paths:
        for method in ("GET", "HEAD", "GET"):
            assert (await guarded.send(method, f"/v2/one/app/{path}")).status == 200
    for path in paths[1:]:
        assert (await guarded.send("DELETE", f"/v2/one/app/{path}")).status == 202
    for path in paths:
        for method in ("GET", "HEAD"):
            headers = {"If-None-Match": f'"{image.digest}", "{layer}"'}
            assert (await guarded.send(method, f"/v2/one/app/{path}", headers=headers)).status == 404


@pytest.mark.parametrize("actions", ["pull", "push", "pull,push"])
async def test_cve_2026_41888_and_31801_every_way_to_delete_needs_delete(guarded: Registry, actions: str) -> None:
    robot = guarded.seen_by(await guarded.make_robot("one"))
    image = await push_image(robot, "one/app", "v1")
    bearer = guarded.seen_by(await draw_token(robot, f"repository:one/app:{actions}"))
    for path in ("manifests/v1", f"manifests/{image.digest}", f"blobs/{image.document['layers'][0]['digest']}"):
        answer = await bearer.send("DELETE", f"/v2/one/app/{path}")
        assert answer.refusal == (401, "UNAUTHORIZED")
        assert 'scope="repository:one/app:delete"' in answer.headers["WWW-Authenticate"]
        assert (await robot.send("GET", f"/v2/one/app/{path}")).status == 200


async def test_cve_2026_27771_a_private_flag_is_looked_at_wherever_bytes_are_served(guarded: Registry) -> None:
    await guarded.make_robot("one", public=True)
    image = await push_image(guarded, "one/app", "v1")
    layer = image.document["layers"][0]["digest"]
    nobody = guarded.seen_by(await draw_token(guarded.seen_by(None), "repository:one/app:pull"))
    paths = ["manifests/v1", f"manifests/{image.digest}", f"blobs/{layer}", "tags/list", f"referrers/{image.digest}"]
    asked = [(method, f"/v2/one/app/{path}") for path in paths for method in ("GET", "HEAD")]
    assert {(await nobody.send(*request)).status for request in asked} == {200}
    await set_public(guarded, "one", False)
    assert {(await nobody.send(*request)).status for request in asked} == {401}
    for method, path in asked:
        answer = await nobody.send(method, path, headers={"Range": "bytes=0-1", "If-None-Match": "*"})
        assert answer.status == 401
        assert layer.encode() not in answer.body


@pytest.mark.parametrize("both", [{"manifests": []}, {"manifests": [], "mediaType": INDEX}])
@pytest.mark.parametrize("content_type", [IMAGE, INDEX, "application/json"])
async def test_cve_2021_41190_a_document_is_an_image_or_an_index(
    registry: Registry, both: dict[str, Any], content_type: str
) -> None:
    document = {**await make_image(registry, "a/b"), "mediaType": content_type, **both}
    answer = await put_manifest(registry, "a/b", "v1", document, content_type)
    assert answer.refusal == (400, "MANIFEST_INVALID")
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).status == 404


@pytest.mark.parametrize(("inner", "content_type"), [(IMAGE, INDEX), (INDEX, IMAGE), (IMAGE, "application/json")])
async def test_cve_2021_41190_a_type_is_the_one_it_was_sent_as(
    registry: Registry, inner: str, content_type: str
) -> None:
    document = {**await make_image(registry, "a/b"), "mediaType": inner}
    answer = await put_manifest(registry, "a/b", "v1", document, content_type)
    assert answer.refusal == (400, "MANIFEST_INVALID")


async def test_cve_2022_31667_a_registry_of_the_same_name_is_another(guarded: Registry) -> None:
    old = await guarded.make_robot("one")
    image = await push_image(guarded, "one/app", "v1")
    layer = image.document["layers"][0]["digest"]
    bearer = await draw_token(guarded.seen_by(old), "repository:one/app:pull,push,delete")
    services = guarded.client.app[SERVICES]  # type: ignore[index]
    await services.registries.delete(await id_of(guarded, "one"), force=True)
    new = await guarded.make_robot("one")
    for path in ("manifests/v1", f"manifests/{image.digest}", f"blobs/{layer}"):
        assert (await guarded.seen_by(new).send("GET", f"/v2/one/app/{path}")).status == 404
        assert (await guarded.seen_by(bearer).send("GET", f"/v2/one/app/{path}")).status == 401
        assert (await guarded.seen_by(old).send("GET", f"/v2/one/app/{path}")).status == 401


@pytest.mark.parametrize("path", ["manifests/v1", "tags/list", f"blobs/{digest_of(b'private')}", "blobs/uploads/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"])
async def test_without_the_right_what_is_there_and_what_is_not_look_alike(
    guarded: Registry, method: str, path: str
) -> None:
    stranger = await guarded.make_robot("other")
    await guarded.make_robot("there")
    await push_image(guarded, "there/app", "v1")
    await push_blob(guarded, "there/app", b"private")
    for comer in (None, stranger):
        seen = guarded.seen_by(comer)
        assert facts(await seen.send(method, f"/v2/there/app/{path}"), "there") == facts(
            await seen.send(method, f"/v2/nowhere/app/{path}"), "nowhere"
        )


def facts(answer: Answer, name: str) -> list[object]:
    """All that an answer tells, its name for the registry aside."""
    headers = {
        key: value.replace(name, "…")
        for key, value in answer.headers.items()
        if key not in ("Date", "X-Request-ID", "X-Request-Id")
    }
    length = headers.pop("Content-Length", "")
    return [answer.status, headers, answer.body.replace(name.encode(), "…".encode()), bool(length)]
