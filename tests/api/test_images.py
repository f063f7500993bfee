"""/v1 images and tags: figures, paging, paths, deletion."""

import re
from urllib.parse import quote

import pytest

from regserver.storage.sql.port import Reader
from support.managing import call, faults, make_registry, refusal, services_of
from support.pushing import Pushed, Registry, push_image, push_index, push_manifest

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def blobs_of(*images: Pushed) -> int:
    """Bytes of the distinct configs and layers."""
    sizes = {
        blob["digest"]: blob["size"]
        for image in images
        for blob in (image.document["config"], *image.document["layers"])
    }
    return sum(sizes.values())


async def retag(registry: Registry, repository: str, tag: str, image: Pushed) -> None:
    headers = {"Content-Type": image.media_type}
    answer = await registry.send("PUT", f"/v2/{repository}/manifests/{tag}", data=image.content, headers=headers)
    assert answer.status == 201, answer


async def rows(registry: Registry, path: str, **query: str) -> list[dict[str, object]]:
    answer = await call(registry, "GET", path, query=query)
    assert answer.status == 200, answer
    return list(answer.json["data"])


# -- lists


async def test_images_are_listed_exactly_as_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    api = await push_image(guarded, "my/api", "v1", layers=2)
    await retag(guarded, "my/api", "latest", api)
    web = await push_image(guarded, "my/team/web", "v1")
    answer = await call(guarded, "GET", f"/registries/{identity}/images")
    pushed = [row["last_pushed"] for row in answer.json["data"]]
    assert all(TIME.fullmatch(time) for time in pushed)
    assert answer.status == 200
    assert answer.json == {
        "data": [
            {
                "name": "api",
                "tag_count": 2,
                "size_bytes": blobs_of(api) + len(api.content),
                "last_pushed": pushed[0],
            },
            {
                "name": "team/web",
                "tag_count": 1,
                "size_bytes": blobs_of(web) + len(web.content),
                "last_pushed": pushed[1],
            },
        ],
        "meta": {"total": 2, "page": 1, "per_page": 20},
    }


async def test_tags_are_listed_exactly_as_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    first, second = await push_image(guarded, "my/api", "v1"), await push_image(guarded, "my/api", "latest", layers=3)
    answer = await call(guarded, "GET", f"/registries/{identity}/images/api/tags")
    pushed = [row["pushed_at"] for row in answer.json["data"]]
    assert all(TIME.fullmatch(time) for time in pushed)
    assert answer.status == 200
    assert answer.json == {
        "data": [
            {
                "name": name,
                "digest": image.digest,
                "size_bytes": blobs_of(image) + len(image.content),
                "pushed_at": time,
            }
            for name, image, time in (("latest", second, pushed[0]), ("v1", first, pushed[1]))
        ],
        "meta": {"total": 2, "page": 1, "per_page": 20},
    }


async def test_an_image_counts_what_its_tags_share_once(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    one = await push_image(registry, "my/api", "v1", layers=2)
    other = await push_manifest(registry, "my/api", {**one.document, "annotations": {"a": "b"}}, "v2")
    (image,) = await rows(registry, f"/registries/{identity}/images")
    assert image["size_bytes"] == blobs_of(one) + len(one.content) + len(other.content)
    sizes = [tag["size_bytes"] for tag in await rows(registry, f"/registries/{identity}/images/api/tags")]
    assert sizes == [blobs_of(one) + len(one.content), blobs_of(one) + len(other.content)]


async def test_an_index_is_as_large_as_what_it_lists_each_blob_once(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    amd = await push_image(registry, "my/api", layers=2)
    arm = await push_manifest(registry, "my/api", {**amd.document, "annotations": {"for": "arm"}})
    inner = await push_index(registry, "my/api", [arm])
    outer = await push_index(registry, "my/api", [amd, inner], "v1")
    (tag,) = await rows(registry, f"/registries/{identity}/images/api/tags")
    manifests = sum(len(one.content) for one in (amd, arm, inner, outer))
    assert (tag["digest"], tag["size_bytes"]) == (outer.digest, blobs_of(amd) + manifests)


async def test_an_image_is_there_while_it_has_a_tag(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    await push_image(registry, "my/untagged")
    await push_image(registry, "my/api", "v1")
    assert [row["name"] for row in await rows(registry, f"/registries/{identity}/images")] == ["api"]
    absent = await call(registry, "GET", f"/registries/{identity}/images/untagged/tags")
    assert refusal(absent) == (404, "not_found")


async def test_images_of_another_registry_are_not_listed(registry: Registry) -> None:
    identity, other = await make_registry(registry, "my"), await make_registry(registry, "other")
    await push_image(registry, "other/api", "v1")
    assert await rows(registry, f"/registries/{identity}/images") == []
    assert len(await rows(registry, f"/registries/{other}/images")) == 1


async def test_images_are_sorted_filtered_and_paged(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    for name, layers in (("b", 3), ("c", 2), ("a_a", 1)):
        await push_image(registry, f"my/{name}", "v1", layers=layers)
    await push_image(registry, "my/c", "v2")
    path, found = f"/registries/{identity}/images", {}
    for sort in ("name", "-name", "tag_count", "-tag_count", "size_bytes", "-size_bytes"):
        found[sort] = "".join(str(row["name"])[0] for row in await rows(registry, path, sort=sort))
    assert found == {
        "name": "abc",
        "-name": "cba",
        "tag_count": "abc",
        "-tag_count": "cab",
        "size_bytes": "abc",
        "-size_bytes": "cba",
    }
    assert [row["name"] for row in await rows(registry, path, q="_")] == ["a_a"]
    assert [row["name"] for row in await rows(registry, path, name="b")] == ["b"]
    second = await call(registry, "GET", path, query={"per_page": "1", "page": "2"})
    assert ([row["name"] for row in second.json["data"]], second.json["meta"]["total"]) == (["b"], 3)
    assert 'rel="next"' in second.headers["Link"]
    assert faults(await call(registry, "GET", path, query={"sort": "x"})) == {("sort", "unknown_value")}


async def test_the_newest_push_comes_first_where_that_is_asked_for(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    database = services_of(registry).core.db
    for place, name in enumerate(("b", "c", "a")):
        await push_image(registry, f"my/{name}", name)
        await push_image(registry, "my/all", name)

        async def move(tx, name: str = name, place: int = place) -> None:
            await tx.execute("UPDATE tags SET updated_at = $1 WHERE name = $2", 1_700_000_000_000 + place, name)

        await database.write(move)
    images = await rows(registry, f"/registries/{identity}/images", sort="-last_pushed", q="")
    tags = {sort: await rows(registry, f"/registries/{identity}/images/all/tags", sort=sort) for sort in SORTS}
    assert [row["name"] for row in images] == ["a", "all", "c", "b"]
    assert images[0]["last_pushed"] == images[1]["last_pushed"] == "2023-11-14T22:13:20Z"
    assert {sort: "".join(str(row["name"]) for row in found) for sort, found in tags.items()} == SORTS


SORTS = {"name": "abc", "-name": "cba", "pushed_at": "bca", "-pushed_at": "acb"}


async def test_tags_are_filtered_and_paged(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    image = await push_image(registry, "my/api", "V1")
    for tag in ("v2", "latest"):
        await retag(registry, "my/api", tag, image)
    path = f"/registries/{identity}/images/api/tags"
    assert [row["name"] for row in await rows(registry, path, q="v")] == ["V1", "v2"]
    assert [row["name"] for row in await rows(registry, path, name="v2")] == ["v2"]
    nothing = await call(registry, "GET", path, query={"name": "v1"})
    assert (nothing.status, nothing.json["data"], nothing.json["meta"]["total"]) == (200, [], 0)
    past = await call(registry, "GET", path, query={"page": "3", "per_page": "2"})
    assert (past.status, past.json["data"], past.json["meta"]["total"]) == (200, [], 3)


async def test_two_hundred_tags_are_read_in_one_statement(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = await make_registry(registry, "my")
    image = await push_image(registry, "my/api", "t000")
    for number in range(1, 200):
        await retag(registry, "my/api", f"t{number:03}", image)
    database, asked = services_of(registry).core.db, []
    read = database.read

    class Counting:
        def __init__(self, reader: Reader) -> None:
            self._reader = reader

        async def fetch(self, sql: str, *args: object) -> object:
            asked.append(sql)
            return await self._reader.fetch(sql, *args)

    async def counted(body: object) -> object:
        return await read(lambda reader: body(Counting(reader)))

    monkeypatch.setattr(database, "read", counted)
    seen = []
    for page in ("1", "2"):
        seen += await rows(registry, f"/registries/{identity}/images/api/tags", per_page="100", page=page)
    assert [row["name"] for row in seen] == [f"t{number:03}" for number in range(200)]
    assert {row["size_bytes"] for row in seen} == {blobs_of(image) + len(image.content)}
    assert len(asked) == 2


# -- deletion


async def test_delete_tag_takes_that_tag_and_nothing_else(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    image = await push_image(guarded, "my/api", "v1")
    await retag(guarded, "my/api", "v2", image)
    answer = await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/v1")
    assert (answer.status, answer.body) == (204, b"")
    assert (await guarded.send("GET", "/v2/my/api/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")
    assert (await guarded.send("GET", "/v2/my/api/manifests/v2")).status == 200
    again = await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/v1")
    assert refusal(again) == (404, "not_found")


async def test_delete_image_takes_all_its_tags_and_no_other_image(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    image = await push_image(guarded, "my/api", "v1")
    await retag(guarded, "my/api", "v2", image)
    await push_image(guarded, "my/web", "v1")
    answer = await call(guarded, "DELETE", f"/registries/{identity}/images/api")
    assert (answer.status, answer.body) == (204, b"")
    assert [row["name"] for row in await rows(guarded, f"/registries/{identity}/images")] == ["web"]
    assert (await guarded.send("GET", "/v2/my/api/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")
    again = await call(guarded, "DELETE", f"/registries/{identity}/images/api")
    assert refusal(again) == (404, "not_found")


async def test_deleting_an_image_is_written_into_the_history_of_each_tag(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    image = await push_image(registry, "my/api", "v1")
    await retag(registry, "my/api", "v2", image)
    await call(registry, "DELETE", f"/registries/{identity}/images/api")
    events = await services_of(registry).core.db.fetch("SELECT name, digest, subject FROM tag_events ORDER BY id")
    assert [event[:2] for event in events] == [("v1", image.digest), ("v2", image.digest), ("v1", None), ("v2", None)]
    assert {event[2] for event in events} == {"developer"}


async def test_a_tag_may_be_deleted_only_as_it_was_seen(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    seen = await push_image(registry, "my/api", "v1")
    moved = await push_image(registry, "my/api", "v1")
    path = f"/registries/{identity}/images/api/tags/v1"
    late = await call(registry, "DELETE", path, headers={"If-Match": f'"{seen.digest}"'})
    assert refusal(late) == (412, "precondition_failed")
    assert (await call(registry, "DELETE", path, headers={"If-Match": f'"{moved.digest}"'})).status == 204


# -- paths


@pytest.mark.parametrize("name", ["team/web", "team%2Fweb", "team%2fweb"])
async def test_an_image_with_a_slash_is_reached_plain_and_encoded(registry: Registry, name: str) -> None:
    identity = await make_registry(registry, "my")
    await push_image(registry, "my/team/web", "v1")
    await push_image(registry, "my/team", "web")
    image = f"/registries/{identity}/images/{name}"
    assert [row["name"] for row in await rows(registry, f"{image}/tags")] == ["v1"]
    assert (await call(registry, "DELETE", f"{image}/tags/v1")).status == 204
    await push_image(registry, "my/team/web", "v2")
    assert (await call(registry, "DELETE", image)).status == 204
    assert [row["name"] for row in await rows(registry, f"/registries/{identity}/images")] == ["team"]


async def test_an_image_called_a_tags_b_is_reached_encoded(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    for repository, tag in (("my/a/tags/b", "v1"), ("my/a", "b"), ("my/tags", "v1")):
        await push_image(registry, repository, tag)
    images = f"/registries/{identity}/images"
    awkward = f"{images}/{quote('a/tags/b', safe='')}"
    assert [row["name"] for row in await rows(registry, f"{awkward}/tags")] == ["v1"]
    assert [row["name"] for row in await rows(registry, f"{images}/tags/tags")] == ["v1"]
    assert (await call(registry, "DELETE", f"{images}/tags/tags/v1")).status == 204
    assert (await call(registry, "DELETE", f"{images}/a/tags/b")).status == 204
    assert [row["name"] for row in await rows(registry, images)] == ["a/tags/b"], "the plain path named tag b of a"
    assert (await call(registry, "DELETE", f"{awkward}/tags/v1")).status == 204
    await push_image(registry, "my/a/tags/b", "v2")
    assert (await call(registry, "DELETE", awkward)).status == 204
    assert await rows(registry, images) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "a/tags/b/tags"),
        ("DELETE", "a/tags/b/tags/c"),
        ("DELETE", "a/tags/b/c"),
        ("DELETE", "a/tags"),
        ("DELETE", "tags/tags/tags/v1"),
    ],
)
async def test_a_path_that_can_be_read_in_two_ways_is_refused_and_deletes_nothing(
    registry: Registry, method: str, path: str
) -> None:
    identity = await make_registry(registry, "my")
    for repository in ("my/a", "my/a/tags", "my/a/tags/b", "my/a/tags/b/c", "my/tags/tags"):
        await push_image(registry, repository, "v1")
    answer = await call(registry, method, f"/registries/{identity}/images/{path}")
    assert refusal(answer) == (400, "request_invalid")
    assert "%2F" in answer.json["error"]["message"]
    assert len(await rows(registry, f"/registries/{identity}/images")) == 5


UNFIT = ("A", "a..b", "a//b", "/a", "a%00", "a%ff", "%2Fa", "a%2F", "a%252Fb", "a" * 256)


async def test_what_cannot_be_the_name_of_an_image_or_tag_is_404(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    await push_image(registry, "my/a", "v1")
    images = f"/registries/{identity}/images"
    for name in UNFIT:
        assert (await call(registry, "GET", f"{images}/{name}/tags")).status == 404, name
        assert (await call(registry, "DELETE", f"{images}/{name}")).status == 404, name
    for tag in ("-x", "a%2Fb", "a%00", "%20", "a:b", "x" * 129):
        assert (await call(registry, "DELETE", f"{images}/a/tags/{tag}")).status == 404, tag
    assert [row["name"] for row in await rows(registry, f"{images}/a/tags")] == ["v1"]
