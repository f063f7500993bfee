"""end-8 and end-12 and the catalog: lists in bytewise order, in pages that add up."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from support.pushing import (
    IMAGE,
    INDEX,
    Answer,
    Registry,
    digest_of,
    make_image,
    push_blob,
    push_image,
    push_index,
    push_manifest,
    put_manifest,
)
from support.wire import CLOSE, connected, head

LISTS = pytest.mark.parametrize(
    "path", ["/v2/a/b/tags/list", "/v2/_catalog", f"/v2/a/b/referrers/{digest_of(b'subject')}"]
)


async def push_tags(registry: Registry, repository: str, tags: Sequence[str]) -> None:
    content = json.dumps(await make_image(registry, repository)).encode()
    for start in range(0, len(tags), 100):
        query = [("tag", tag) for tag in tags[start : start + 100]]
        answer = await put_manifest(registry, repository, digest_of(content), content, query=query)
        assert answer.status == 201


def next_of(answer: Answer) -> str | None:
    """The path of `Link: <…>; rel="next"`."""
    link = answer.headers.get("Link")
    if link is None:
        return None
    assert link.startswith("</v2/")
    assert link.endswith('>; rel="next"')
    return link.partition(">")[0][1:]


async def read_pages(registry: Registry, path: str, field: str) -> list[list[Any]]:
    pages, following = [], path
    while following:
        answer = await registry.send("GET", following)
        assert answer.status == 200
        pages.append(answer.json[field])
        following = next_of(answer) or ""
    return pages


async def test_end_8a_every_tag_is_listed_in_bytewise_order(registry: Registry) -> None:
    await push_tags(registry, "a/b", ["b", "B", "a", "_", "a-1", "a.1", "a1", "0", "Z"])
    answer = await registry.send("GET", "/v2/a/b/tags/list")
    assert answer.status == 200
    assert answer.json == {"name": "a/b", "tags": ["0", "B", "Z", "_", "a", "a-1", "a.1", "a1", "b"]}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert "Link" not in answer.headers


async def test_end_8a_without_n_even_a_long_list_comes_whole(registry: Registry) -> None:
    tags = [f"t{number:05}" for number in range(3500)]
    await push_tags(registry, "a/b", tags)
    answer = await registry.send("GET", "/v2/a/b/tags/list")
    assert answer.json == {"name": "a/b", "tags": tags}
    assert "Link" not in answer.headers
    async with connected(registry) as wire:
        await wire.send(head("HEAD", "/v2/a/b/tags/list", CLOSE))
        received = await wire.rest()
        assert received.count(b"\r\n\r\n") == 1
        assert received.endswith(b"\r\n\r\n")
        assert b"Content-Length" not in received
    rest = await registry.send("GET", "/v2/a/b/tags/list?last=t01000")
    assert rest.json["tags"] == tags[1001:]


async def test_end_8b_pages_follow_their_links(registry: Registry) -> None:
    await push_tags(registry, "a/b", ["a", "b", "c", "d", "e"])
    assert await read_pages(registry, "/v2/a/b/tags/list?n=2", "tags") == [["a", "b"], ["c", "d"], ["e"]]


async def test_end_8b_the_last_page_has_no_link_though_it_is_full(registry: Registry) -> None:
    await push_tags(registry, "a/b", ["a", "b"])
    assert "Link" not in (await registry.send("GET", "/v2/a/b/tags/list?n=2")).headers


async def test_end_8b_last_need_not_exist(registry: Registry) -> None:
    await push_tags(registry, "a/b", ["a", "c"])
    assert (await registry.send("GET", "/v2/a/b/tags/list?last=b")).json["tags"] == ["c"]
    assert (await registry.send("GET", "/v2/a/b/tags/list?n=1&last=zzz")).json["tags"] == []


@LISTS
async def test_n_of_zero_is_an_empty_list_without_a_link(registry: Registry, path: str) -> None:
    subject = {"mediaType": IMAGE, "digest": digest_of(b"subject"), "size": 7}
    await push_image(registry, "a/b", "v1", subject=subject)
    answer = await registry.send("GET", path + "?n=0")
    assert answer.status == 200
    assert [] in answer.json.values()
    assert "Link" not in answer.headers


@LISTS
@pytest.mark.parametrize("n", ["-1", "x", "1.0", "%20", "", "1e3", "1000000000", "9" * 5000, "%D9%A1", "1&n=2", "+1"])
async def test_an_n_that_is_no_number_is_refused(registry: Registry, path: str, n: str) -> None:
    await push_image(registry, "a/b", "v1")
    answer = await registry.send("GET", f"{path}?n={n}")
    assert answer.status == 400


@LISTS
@pytest.mark.parametrize("last", ["%00", "a%0Ab", "%7F", "%C2%85", "x&last=y"])
async def test_a_last_that_is_no_text_is_refused(registry: Registry, path: str, last: str) -> None:
    await push_image(registry, "a/b", "v1")
    answer = await registry.send("GET", f"{path}?last={last}")
    assert answer.status == 400


async def test_end_8a_a_repository_that_was_never_pushed_to_is_unknown(registry: Registry) -> None:
    await push_image(registry, "a/b", "v1")
    assert (await registry.send("GET", "/v2/a/nothing/tags/list")).refusal == (404, "NAME_UNKNOWN")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tags=st.sets(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,4}", fullmatch=True), max_size=12), n=st.integers(1, 5)
)
async def test_pages_add_up_to_the_whole_list(registry: Registry, tags: set[str], n: int) -> None:
    repository = f"a/r{next_number()}"
    await push_tags(registry, repository, [*tags, "kept"])
    pages = await read_pages(registry, f"/v2/{repository}/tags/list?n={n}", "tags")
    assert [tag for page in pages for tag in page] == sorted(tags | {"kept"}, key=str.encode)
    assert all(len(page) == n for page in pages[:-1])


def next_number(count: list[int] = [0]) -> int:  # noqa: B006 - a counter
    count[0] += 1
    return count[0]


async def test_end_12a_referrers_are_an_index_of_their_descriptors(registry: Registry) -> None:
    subject = await push_image(registry, "a/b", "v1")
    image = await push_image(registry, "a/b", subject=subject.descriptor, annotations={"k": "v"})
    typed = await push_image(registry, "a/b", subject=subject.descriptor, artifactType="example/signature")
    index = await push_index(registry, "a/b", [image], subject=subject.descriptor, artifactType="example/list")
    answer = await registry.send("GET", f"/v2/a/b/referrers/{subject.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, INDEX)
    listed = {entry["digest"]: entry for entry in answer.json["manifests"]}
    config = image.document["config"]["mediaType"]
    assert listed[image.digest] == {**image.descriptor, "artifactType": config, "annotations": {"k": "v"}}
    assert listed[typed.digest]["artifactType"] == "example/signature"
    assert listed[index.digest]["artifactType"] == "example/list"
    assert len(listed) == 3


async def test_end_12b_a_filter_is_applied_and_named(registry: Registry) -> None:
    subject = await push_image(registry, "a/b", "v1")
    wanted = await push_image(registry, "a/b", subject=subject.descriptor, artifactType="example/a")
    await push_image(registry, "a/b", subject=subject.descriptor, artifactType="example/b")
    answer = await registry.send("GET", f"/v2/a/b/referrers/{subject.digest}", query={"artifactType": "example/a"})
    assert [entry["digest"] for entry in answer.json["manifests"]] == [wanted.digest]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"


@pytest.mark.parametrize("repository", ["a/b", "a/nothing"])
async def test_end_12a_what_is_not_there_has_no_referrers_yet(registry: Registry, repository: str) -> None:
    await push_blob(registry, "a/b")
    answer = await registry.send("GET", f"/v2/{repository}/referrers/{digest_of(b'missing')}")
    assert (answer.status, answer.json["manifests"]) == (200, [])
    assert answer.headers["Content-Type"] == INDEX


async def test_end_12a_a_subject_that_is_no_digest_is_refused(registry: Registry) -> None:
    await push_blob(registry, "a/b")
    assert (await registry.send("GET", "/v2/a/b/referrers/latest")).refusal == (400, "DIGEST_INVALID")


async def test_end_12_pages_of_referrers_keep_their_filter(registry: Registry) -> None:
    subject = await push_image(registry, "a/b", "v1")
    pushed = [
        await push_image(registry, "a/b", subject=subject.descriptor, artifactType=f"x/{number % 2}+&?")
        for number in range(6)
    ]
    path = str(URL(f"/v2/a/b/referrers/{subject.digest}").with_query({"artifactType": "x/1+&?", "n": "2"}))
    pages = await read_pages(registry, path, "manifests")
    assert [entry["digest"] for page in pages for entry in page] == sorted(image.digest for image in pushed[1::2])
    assert [len(page) for page in pages] == [2, 1]


async def test_end_12_a_page_of_referrers_is_no_larger_than_a_manifest_may_be(registry: Registry) -> None:
    subject = await push_image(registry, "a/b", "v1")
    notes = {"note": "x" * 1_500_000}
    pushed = [await push_image(registry, "a/b", subject=subject.descriptor, annotations=notes) for _ in range(5)]
    pages = await read_pages(registry, f"/v2/a/b/referrers/{subject.digest}", "manifests")
    assert [entry["digest"] for page in pages for entry in page] == sorted(image.digest for image in pushed)
    assert [len(page) for page in pages] == [2, 2, 1]


async def test_end_12_the_fallback_tag_of_older_clients_is_taken_in(registry: Registry) -> None:
    subject = digest_of(b"subject")
    image = await push_image(registry, "a/b")
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**image.descriptor, "artifactType": "x/y"}]}
    await push_manifest(registry, "a/b", document, subject.replace(":", "-"), INDEX)
    answer = await registry.send("GET", f"/v2/a/b/referrers/{subject}")
    assert answer.json["manifests"] == document["manifests"]


async def test_the_catalog_lists_what_holds_something_in_pages(registry: Registry) -> None:
    names = ["a/b", "a/b/c", "a-b/x", "b/x"]
    await asyncio.gather(*(push_image(registry, name, "v1") for name in names))
    whole = await registry.send("GET", "/v2/_catalog")
    pages = await read_pages(registry, "/v2/_catalog?n=3", "repositories")
    assert sorted(whole.json["repositories"]) == sorted(names)
    assert [name for page in pages for name in page] == whole.json["repositories"]
    assert [len(page) for page in pages] == [3, 1]


async def test_the_catalog_shows_a_robot_what_it_may_pull(guarded: Registry) -> None:
    one, _ = await guarded.make_robot("one"), await guarded.make_robot("two")
    await push_image(guarded, "one/a", "v1")
    await push_image(guarded, "two/a", "v1")
    assert (await guarded.send("GET", "/v2/_catalog")).json["repositories"] == ["one/a", "two/a"]
    assert (await guarded.seen_by(one).send("GET", "/v2/_catalog")).json["repositories"] == ["one/a"]
    assert (await guarded.seen_by(None).send("GET", "/v2/_catalog")).status == 401


async def test_referrers_of_a_registry_that_is_not_there_are_none(registry: Registry) -> None:
    """end-12a: never 404, whoever asks."""
    answer = await registry.send("GET", f"/v2/nowhere/api/referrers/{digest_of(b'subject')}")
    assert (answer.status, answer.json["manifests"]) == (200, [])
    for path in ("tags/list", "manifests/v1", f"blobs/{digest_of(b'blob')}"):
        assert (await registry.send("GET", f"/v2/nowhere/api/{path}")).status == 404
