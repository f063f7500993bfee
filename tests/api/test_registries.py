"""/v1/registries: every field, status and rule of the contract."""

import asyncio
import re
from pathlib import Path

import pytest

from support.managing import call, faults, make_registry, refusal, services_of
from support.pushing import Registry, push_image
from support.registry import served_app

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
IDENTITY = re.compile(r"reg_[0-9a-v]{26}")
SUMMARY = {"id", "name", "status", "public", "endpoint", "image_count", "storage_bytes", "created_at"}


def address(registry: Registry) -> str:
    return f"{registry.client.host}:{registry.client.port}"


# -- create


async def test_create_answers_exactly_what_is_documented(guarded: Registry) -> None:
    answer = await call(guarded, "POST", "/registries", {"name": "my-images", "public": False})
    assert answer.status == 201
    identity = answer.json["data"]["id"]
    assert IDENTITY.fullmatch(identity)
    endpoint = f"{address(guarded)}/my-images"
    assert answer.json == {
        "data": {"id": identity, "name": "my-images", "status": "creating", "public": False, "endpoint": endpoint}
    }
    assert answer.headers["Location"] == f"/v1/registries/{identity}"
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_created_registry_is_active_and_takes_a_push_at_once(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    assert (await call(guarded, "GET", f"/registries/{identity}")).json["data"]["status"] == "active"
    await push_image(guarded, "my-images/api", "v1")


async def test_create_is_private_unless_public_is_asked_for(guarded: Registry) -> None:
    private, public = await make_registry(guarded, "a"), await make_registry(guarded, "b", public=True)
    shown = [(await call(guarded, "GET", f"/registries/{one}")).json["data"]["public"] for one in (private, public)]
    assert shown == [False, True]


async def test_create_takes_every_name_that_is_one_component_of_an_oci_name(registry: Registry) -> None:
    for name in ("a", "0", "my-images", "a.b_c__d---e", "a" * 63):
        await make_registry(registry, name)
        await push_image(registry, f"{name}/api", "v1")


UNFIT_NAMES = (
    *[(name, "reserved") for name in ("v1", "v2", "token", "api", "admin", "ui")],
    *[
        (name, "invalid_format")
        for name in ("", "A", "a/b", "-a", "a-", "a..b", "a___b", "ä", "a\n", "a\x00", "\ud800")
    ],
    ("a" * 64, "too_long"),
    *[(name, "wrong_type") for name in (7, None, ["a"], {})],
)


async def test_create_refuses_what_cannot_be_a_name(registry: Registry) -> None:
    for name, code in UNFIT_NAMES:
        answer = await call(registry, "POST", "/registries", {"name": name})
        assert faults(answer) == {("name", code)}, name
    assert (await call(registry, "GET", "/registries")).json["meta"]["total"] == 0


async def test_create_reports_every_field_that_is_wrong_at_once(registry: Registry) -> None:
    document = {"name": "V1", "public": "no", "quota": {"storage_gb": -1, "used_gb": 3}, "colour": 1}
    assert faults(await call(registry, "POST", "/registries", document)) == {
        ("name", "invalid_format"),
        ("public", "wrong_type"),
        ("quota.storage_gb", "out_of_range"),
        ("quota.used_gb", "unknown_field"),
        ("colour", "unknown_field"),
    }


async def test_create_needs_a_name(registry: Registry) -> None:
    assert faults(await call(registry, "POST", "/registries", {})) == {("name", "required")}


async def test_a_name_is_taken_once(guarded: Registry) -> None:
    await make_registry(guarded, "taken")
    answer = await call(guarded, "POST", "/registries", {"name": "taken"})
    assert refusal(answer) == (409, "already_exists")


async def test_of_many_who_want_one_name_at_once_one_gets_it(guarded: Registry) -> None:
    asked = [call(guarded, "POST", "/registries", {"name": "one"}) for _ in range(8)]
    statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert sorted(statuses) == [201] + [409] * 7
    assert (await call(guarded, "GET", "/registries")).json["meta"]["total"] == 1


async def test_the_endpoint_is_the_host_that_the_client_asked(registry: Registry) -> None:
    answer = await call(registry, "POST", "/registries", {"name": "a"}, headers={"Host": "localhost:7"})
    assert answer.json["data"]["endpoint"] == "localhost:7/a"


async def test_the_endpoint_is_the_public_url_where_one_is_set(root: Path) -> None:
    async with served_app(root, dev=True, public_url="https://registry.example.com") as client:
        answer = await call(Registry(client), "POST", "/registries", {"name": "a"})
    assert answer.json["data"]["endpoint"] == "registry.example.com/a"


# -- get


async def test_get_answers_exactly_what_is_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images", quota={"storage_gb": 50})
    answer = await call(guarded, "GET", f"/registries/{identity}")
    assert answer.status == 200
    data = answer.json["data"]
    assert TIME.fullmatch(data["created_at"])
    assert answer.json == {
        "data": {
            "id": identity,
            "name": "my-images",
            "status": "active",
            "public": False,
            "endpoint": f"{address(guarded)}/my-images",
            "image_count": 0,
            "storage_bytes": 0,
            "quota": {"storage_gb": 50, "used_gb": 0},
            "policy": {"immutable_tags": None, "retention": None, "keep_untagged": False},
            "created_at": data["created_at"],
            "updated_at": data["created_at"],
        }
    }


ROUTES_OF_ONE = (
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("GET", "/credentials"),
    ("POST", "/rotate-credentials"),
    ("GET", "/images"),
    ("GET", "/images/a/tags"),
    ("DELETE", "/images/a/tags/b"),
    ("DELETE", "/images/a"),
    ("POST", "/gc"),
    ("GET", "/gc"),
    ("GET", "/gc/gc_" + "0" * 26),
)


@pytest.mark.parametrize("identity", ["reg_" + "0" * 26, "reg_abc123", "x", "reg_%00", "..%2f", "gc_" + "0" * 26])
async def test_a_registry_that_is_not_there_is_404_on_every_route(registry: Registry, identity: str) -> None:
    for method, rest in ROUTES_OF_ONE:
        document = {} if method == "PATCH" else None
        answer = await call(registry, method, f"/registries/{identity}{rest}", document)
        assert refusal(answer) == (404, "not_found"), (method, rest)


async def test_figures_count_a_shared_blob_once_and_images_while_they_have_a_tag(registry: Registry) -> None:
    identity = await make_registry(registry, "my")
    one = await push_image(registry, "my/one", "v1", layers=2)
    for content in (one.document["config"], *one.document["layers"]):
        mounted = await registry.send("POST", f"/v2/my/two/blobs/uploads/?mount={content['digest']}&from=my/one")
        assert mounted.status == 201
    again = await registry.send(
        "PUT", "/v2/my/two/manifests/v1", data=one.content, headers={"Content-Type": one.media_type}
    )
    assert again.status == 201
    loose = await push_image(registry, "my/loose", layers=1)
    blobs = [one.document["config"], *one.document["layers"], loose.document["config"], *loose.document["layers"]]
    expected = sum(blob["size"] for blob in blobs) + 2 * len(one.content) + len(loose.content)
    for figures in (
        (await call(registry, "GET", f"/registries/{identity}")).json["data"],
        (await call(registry, "GET", "/registries")).json["data"][0],
    ):
        assert (figures["image_count"], figures["storage_bytes"]) == (2, expected)


# -- list


async def test_list_answers_exactly_what_is_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    answer = await call(guarded, "GET", "/registries")
    assert answer.status == 200
    created = answer.json["data"][0]["created_at"]
    assert TIME.fullmatch(created)
    assert answer.json == {
        "data": [
            {
                "id": identity,
                "name": "my-images",
                "status": "active",
                "public": False,
                "endpoint": f"{address(guarded)}/my-images",
                "image_count": 0,
                "storage_bytes": 0,
                "created_at": created,
            }
        ],
        "meta": {"total": 1, "page": 1, "per_page": 20},
    }
    assert "Link" not in answer.headers


async def test_pages_concatenate_to_the_whole_list_and_link_names_the_next(registry: Registry) -> None:
    made = [await make_registry(registry, f"r{number}") for number in range(7)]
    path, seen, pages = "/v1/registries?per_page=3&sort=created_at", [], []
    while path:
        answer = await registry.send("GET", path)
        seen += [row["id"] for row in answer.json["data"]]
        pages.append(answer.json["meta"])
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        path = link[1] if link else ""
    assert seen == made
    assert pages == [{"total": 7, "page": page, "per_page": 3} for page in (1, 2, 3)]


async def test_a_page_past_the_end_is_empty_and_knows_the_total(registry: Registry) -> None:
    await make_registry(registry, "a")
    answer = await call(registry, "GET", "/registries", query={"page": "9"})
    assert (answer.status, answer.json) == (200, {"data": [], "meta": {"total": 1, "page": 9, "per_page": 20}})
    assert "Link" not in answer.headers


@pytest.mark.parametrize("field", ["page", "per_page"])
async def test_list_refuses_a_page_out_of_range(registry: Registry, field: str) -> None:
    for value in ("0", "-1", "x", "", "1.5", "\u0663", "9999999999999999999999", " 1"):
        answer = await call(registry, "GET", "/registries", query={field: value})
        assert faults(answer) == {(field, "out_of_range")}, value


async def test_list_refuses_more_than_100_a_page_and_reports_all_parameters_at_once(registry: Registry) -> None:
    query = {"page": "0", "per_page": "101", "sort": "colour", "q": "a\x00b", "name": "a" * 256}
    assert faults(await call(registry, "GET", "/registries", query=query)) == {
        ("page", "out_of_range"),
        ("per_page", "out_of_range"),
        ("sort", "unknown_value"),
        ("q", "invalid_format"),
        ("name", "invalid_format"),
    }


async def test_list_refuses_a_parameter_given_twice_and_ignores_unknown_ones(registry: Registry) -> None:
    twice = await registry.send("GET", "/v1/registries?page=1&page=2")
    assert faults(twice) == {("page", "repeated")}
    assert (await call(registry, "GET", "/registries", query={"colour": "red"})).status == 200


SORTED = {
    "name": ["a", "b", "c"],
    "-name": ["c", "b", "a"],
    "created_at": ["b", "c", "a"],
    "-created_at": ["a", "c", "b"],
    "storage_bytes": ["b", "a", "c"],
    "-storage_bytes": ["c", "a", "b"],
    "image_count": ["b", "a", "c"],
    "-image_count": ["c", "a", "b"],
}


async def test_list_is_sorted_as_asked(registry: Registry) -> None:
    for name in ("b", "c", "a"):
        await make_registry(registry, name)
    for repository in ("c/one", "c/two", "a/one"):
        await push_image(registry, repository, "v1")
    answers = {sort: await call(registry, "GET", "/registries", query={"sort": sort}) for sort in SORTED}
    assert {sort: [row["name"] for row in answer.json["data"]] for sort, answer in answers.items()} == SORTED


FILTERED = (
    ({"name": "ab"}, ["ab"]),
    ({"name": "a"}, []),
    ({"name": "%"}, []),
    ({"q": "B"}, ["ab", "a_b"]),
    ({"q": "_"}, ["a_b"]),
    ({"q": "%"}, []),
    ({"q": "!"}, []),
    ({"q": ""}, ["ab", "a_b", "c"]),
    ({"q": "a", "name": "c"}, []),
)


async def test_list_is_filtered_by_name_and_by_part_of_it(registry: Registry) -> None:
    for name in ("ab", "a_b", "c"):
        await make_registry(registry, name)
    for query, expected in FILTERED:
        answer = await call(registry, "GET", "/registries", query=query)
        assert [row["name"] for row in answer.json["data"]] == expected, query
        assert answer.json["meta"]["total"] == len(expected)


async def test_a_list_reads_the_catalog_once_however_long_it_is(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await make_registry(registry, f"r{number}")
    database, asked = services_of(registry).core.db, 0
    fetch, read = database.fetch, database.read

    async def counted_fetch(*args):
        nonlocal asked
        asked += "registries" in args[0]  # what goes on in the background asks for other things
        return await fetch(*args)

    async def counted_read(body):
        async def counted(reader):
            class Counting:
                async def fetch(self, *args):
                    nonlocal asked
                    asked += "registries" in args[0]
                    return await reader.fetch(*args)

            return await body(Counting())

        return await read(counted)

    monkeypatch.setattr(database, "fetch", counted_fetch)
    monkeypatch.setattr(database, "read", counted_read)
    answer = await call(registry, "GET", "/registries")
    assert (len(answer.json["data"]), asked) == (5, 1)
