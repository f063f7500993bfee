"""/v1/registries: every field, status and rule of the contract."""

import asyncio
import re
from pathlib import Path

import pytest

from regserver.config import GIB
from support.managing import call, faults, make_registry, refusal, services_of
from support.pushing import Registry, push_blob, push_image, start_upload
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
    fetch, read = type(database).fetch, type(database).read

    async def counted_fetch(self, *args):
        nonlocal asked
        asked += 1
        return await fetch(self, *args)

    async def counted_read(self, body):
        async def counted(reader):
            class Counting:
                async def fetch(self, *args):
                    nonlocal asked
                    asked += 1
                    return await reader.fetch(*args)

            return await body(Counting())

        return await read(self, counted)

    monkeypatch.setattr(type(database), "fetch", counted_fetch)
    monkeypatch.setattr(type(database), "read", counted_read)
    answer = await call(registry, "GET", "/registries")
    assert (len(answer.json["data"]), asked) == (5, 1)


# -- update


async def test_update_answers_exactly_what_is_documented(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my-images")
    answer = await call(guarded, "PATCH", f"/registries/{identity}", {"public": True})
    assert (answer.status, answer.json) == (200, {"data": {"id": identity, "name": "my-images", "public": True}})
    assert (await call(guarded, "GET", f"/registries/{identity}")).json["data"]["public"] is True


async def test_update_changes_what_anonymous_callers_may_pull(guarded: Registry) -> None:
    identity = await make_registry(guarded, "my")
    await push_image(guarded, "my/api", "v1")
    anybody = guarded.seen_by(None)
    before = (await anybody.send("GET", "/v2/my/api/manifests/v1")).status
    await call(guarded, "PATCH", f"/registries/{identity}", {"public": True})
    challenge = await anybody.send("GET", "/token?service=x&scope=repository:my/api:pull")
    token = challenge.json["token"]
    after = await guarded.seen_by(f"Bearer {token}").send("GET", "/v2/my/api/manifests/v1")
    assert (before, after.status) == (401, 200)


async def test_update_leaves_what_it_does_not_name(registry: Registry) -> None:
    identity = await make_registry(registry, "a", public=True, quota={"storage_gb": 2})
    await call(registry, "PATCH", f"/registries/{identity}", {})
    untouched = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    await call(registry, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": 3}})
    data = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    assert (untouched["public"], untouched["quota"]["storage_gb"]) == (True, 2)
    assert (data["public"], data["quota"]["storage_gb"]) == (True, 3)


UNFIT_CHANGES = (
    ({"public": None}, {("public", "wrong_type")}),
    ({"name": "b"}, {("name", "unknown_field")}),
    ({"quota": 5}, {("quota", "wrong_type")}),
    ({"quota": {}}, {("quota.storage_gb", "required")}),
    ({"quota": {"storage_gb": True}}, {("quota.storage_gb", "wrong_type")}),
    ({"quota": {"storage_gb": "5"}}, {("quota.storage_gb", "wrong_type")}),
    ({"quota": {"storage_gb": 1e300}}, {("quota.storage_gb", "out_of_range")}),
    ({"quota": {"storage_gb": 10**400}}, {("quota.storage_gb", "out_of_range")}),
)


async def test_update_refuses_what_a_registry_cannot_be(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    before = (await call(registry, "GET", f"/registries/{identity}")).json
    for document, expected in UNFIT_CHANGES:
        assert faults(await call(registry, "PATCH", f"/registries/{identity}", document)) == expected
    assert (await call(registry, "GET", f"/registries/{identity}")).json == before


# -- quota


async def test_a_quota_is_shown_as_it_was_set(registry: Registry) -> None:
    identity, limits, shown = await make_registry(registry, "a"), (0, 1, 0.5, 0.1, 1e-9, 12.345678901, 10**9), []
    for limit in limits:
        await call(registry, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": limit}})
        answer = await call(registry, "GET", f"/registries/{identity}")
        shown.append(answer.json["data"]["quota"]["storage_gb"])
    assert shown == list(limits)


async def test_a_quota_of_null_is_the_servers_default(root: Path) -> None:
    async with served_app(root, dev=True, default_quota_bytes=7 * GIB) as client:
        registry = Registry(client)
        identity = await make_registry(registry, "a", quota={"storage_gb": 1})
        shown = []
        for quota in ({"storage_gb": None}, {"storage_gb": 2}, None):
            await call(registry, "PATCH", f"/registries/{identity}", {"quota": quota})
            answer = await call(registry, "GET", f"/registries/{identity}")
            shown.append(answer.json["data"]["quota"]["storage_gb"])
    assert shown == [7, 2, 7]


async def test_without_any_limit_the_quota_is_null(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    quota = (await call(registry, "GET", f"/registries/{identity}")).json["data"]["quota"]
    assert quota == {"storage_gb": None, "used_gb": 0}


async def test_used_gb_is_what_is_stored_in_gib(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    await push_blob(registry, "a/b", bytes(3 * 2**20))
    data = (await call(registry, "GET", f"/registries/{identity}")).json["data"]
    assert (data["quota"]["used_gb"], data["storage_bytes"]) == (0.003, 3 * 2**20)


async def test_a_quota_in_fractions_of_a_gib_holds(registry: Registry) -> None:
    await make_registry(registry, "a", quota={"storage_gb": 1024 / GIB})
    location = await start_upload(registry, "a/b")
    sent = await registry.send("PATCH", location, data=bytes(1025))
    assert sent.status == 403


# -- delete


async def test_delete_answers_204_and_nothing_finds_it_any_more(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    answer = await call(guarded, "DELETE", f"/registries/{identity}")
    assert (answer.status, answer.body) == (204, b"")
    assert refusal(await call(guarded, "GET", f"/registries/{identity}")) == (404, "not_found")
    assert refusal(await call(guarded, "DELETE", f"/registries/{identity}")) == (404, "not_found")
    assert (await call(guarded, "GET", "/registries")).json["meta"]["total"] == 0


@pytest.mark.parametrize("query", [{}, {"force": "false"}, {"force": "0"}])
async def test_delete_refuses_a_registry_that_holds_an_image(registry: Registry, query: dict[str, str]) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b", "v1")
    assert refusal(await call(registry, "DELETE", f"/registries/{identity}", query=query)) == (409, "not_empty")
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).status == 200


@pytest.mark.parametrize("force", ["true", "1"])
async def test_delete_with_force_takes_the_images_along(registry: Registry, force: str) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b", "v1")
    assert (await call(registry, "DELETE", f"/registries/{identity}", query={"force": force})).status == 204
    assert (await registry.send("GET", "/v2/a/b/manifests/v1")).refusal == (404, "NAME_UNKNOWN")


async def test_delete_does_not_count_untagged_rests_and_open_uploads_as_images(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    await push_image(registry, "a/b")
    await push_blob(registry, "a/c")
    await start_upload(registry, "a/d")
    assert (await call(registry, "DELETE", f"/registries/{identity}")).status == 204


@pytest.mark.parametrize("force", ["", "yes", "True", "2"])
async def test_delete_refuses_a_force_that_is_no_boolean_and_deletes_nothing(registry: Registry, force: str) -> None:
    identity = await make_registry(registry, "a")
    answer = await call(registry, "DELETE", f"/registries/{identity}", query={"force": force})
    assert faults(answer) == {("force", "wrong_type")}
    assert (await call(registry, "GET", f"/registries/{identity}")).status == 200


async def test_the_name_of_a_deleted_registry_is_free_at_once_and_its_robot_dead(guarded: Registry) -> None:
    robot = guarded.seen_by(await guarded.make_robot("a"))
    await push_image(robot, "a/b", "v1")
    old = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    await call(guarded, "DELETE", f"/registries/{old}", query={"force": "true"})
    new = await make_registry(guarded, "a")
    assert new != old
    assert (await robot.send("GET", "/v2/")).status == 401
    assert (await robot.send("GET", "/v2/a/b/manifests/v1")).status == 401
    assert (await guarded.send("GET", "/v2/a/b/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")


async def test_a_bearer_token_dies_with_its_registry(guarded: Registry) -> None:
    robot = guarded.seen_by(await guarded.make_robot("a"))
    await push_image(robot, "a/b", "v1")
    drawn = await robot.send("GET", "/token?service=x&scope=repository:a/b:pull,push")
    bearer = guarded.seen_by(f"Bearer {drawn.json['token']}")
    before = (await bearer.send("GET", "/v2/a/b/manifests/v1")).status
    identity = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    await call(guarded, "DELETE", f"/registries/{identity}", query={"force": "true"})
    await make_registry(guarded, "a")
    assert (before, (await bearer.send("GET", "/v2/a/b/manifests/v1")).status) == (200, 401)


# -- conditions


async def test_a_change_may_be_held_to_the_state_that_was_seen(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    seen = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    first = await call(registry, "PATCH", f"/registries/{identity}", {"public": True}, headers={"If-Match": seen})
    late = await call(registry, "PATCH", f"/registries/{identity}", {"public": False}, headers={"If-Match": seen})
    gone = await call(registry, "DELETE", f"/registries/{identity}", headers={"If-Match": seen})
    assert (first.status, refusal(late), refusal(gone)) == (
        200,
        (412, "precondition_failed"),
        (412, "precondition_failed"),
    )
    current = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    assert current == first.headers["ETag"] != seen
    assert (await call(registry, "DELETE", f"/registries/{identity}", headers={"If-Match": current})).status == 204


@pytest.mark.parametrize(("value", "status"), [("*", 200), ('W/"1"', 412), ('"1"', 412), ("1", 412), ('"1", "2"', 400)])
async def test_if_match_takes_one_strong_validator_or_any(registry: Registry, value: str, status: int) -> None:
    identity = await make_registry(registry, "a")
    answer = await call(registry, "PATCH", f"/registries/{identity}", {"public": True}, headers={"If-Match": value})
    assert answer.status == status


async def test_pushes_do_not_change_the_state_that_conditions_are_about(registry: Registry) -> None:
    identity = await make_registry(registry, "a")
    before = (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"]
    await push_image(registry, "a/b", "v1")
    assert (await call(registry, "GET", f"/registries/{identity}")).headers["ETag"] == before
