"""The description of /v1: complete, well-formed, and of the same mind as what validates. `support.description` holds
every answer of the other tests against it."""

import json
import re
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from regserver.app import ROUTES
from regserver.errors import ErrorCode
from regserver.mgmt import declared
from regserver.mgmt.openapi import make_document, template
from regserver.mgmt.operations import operation_of, refusals
from regserver.model.access import Access
from regserver.web.context import Call, Route
from support.description import managed_routes
from support.pushing import Registry


async def read_description(registry: Registry) -> dict[str, Any]:
    answer = await registry.seen_by(None).send("GET", "/v1/openapi.json")
    assert answer.status == 200
    document = answer.json
    assert isinstance(document, dict)
    return document


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): found for path, row in document["paths"].items() for method, found in row.items()}


async def test_every_route_of_v1_is_described_and_nothing_else(guarded: Registry) -> None:
    described = operations(await read_description(guarded))
    assert set(described) == {(row.method, template(row.path)) for row in ROUTES if row.path.startswith("/v1")}
    names = [found["operationId"] for found in described.values()]
    assert len(names) == len(set(names))


def test_a_route_without_a_description_is_refused() -> None:
    async def undescribed(request: web.Request, call: Call) -> web.Response:
        return web.Response()

    with pytest.raises(LookupError, match="GET /v1/new has no @operation"):
        make_document([Route("GET", "/v1/new", Access.API_READ, undescribed)])


async def test_every_operation_says_what_it_is_in_words(guarded: Registry) -> None:
    document = await read_description(guarded)
    tags = {tag["name"] for tag in document["tags"]}
    for route, found in operations(document).items():
        assert found["summary"], route
        assert set(found["tags"]) <= tags, route
        assert all(parameter["description"] for parameter in found["parameters"]), route
        assert all(answer["description"] for answer in found["responses"].values()), route
    assert tags == {tag for found in operations(document).values() for tag in found["tags"]}


async def test_every_part_of_a_path_is_a_parameter(guarded: Registry) -> None:
    for (method, path), found in operations(await read_description(guarded)).items():
        stated = [parameter["name"] for parameter in found["parameters"] if parameter["in"] == "path"]
        assert stated == re.findall(r"\{(\w+)\}", path), (method, path)


async def test_every_reference_leads_somewhere_and_every_resource_is_referred_to(guarded: Registry) -> None:
    document = await read_description(guarded)
    found = set(re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(document)))
    assert found == set(document["components"]["schemas"])


async def test_every_schema_is_one_and_every_example_is_what_its_schema_says(guarded: Registry) -> None:
    document = await read_description(guarded)
    for schema in schemas(document):
        Draft202012Validator.check_schema(schema)
        judge = Draft202012Validator({**schema, "components": document["components"]})
        for example in schema.get("examples", []):
            assert list(judge.iter_errors(example)) == [], schema


def schemas(part: Any) -> list[dict[str, Any]]:
    """Every object that says it is of a type."""
    if isinstance(part, list):
        return [found for item in part for found in schemas(item)]
    if not isinstance(part, dict):
        return []
    here = [part] if isinstance(part.get("type"), str) and part["type"] not in ("http",) else []
    return here + [found for item in part.values() for found in schemas(item)]


def test_a_refusal_that_is_not_open_may_ask_who_you_are() -> None:
    for row in managed_routes():
        identified = {ErrorCode.UNAUTHORIZED, ErrorCode.DENIED} <= refusals(row)
        assert identified == (row.access is not Access.OPEN), row.path


# ---------------------------------------------------------------- the same mind


def texts() -> list[Any]:
    """Every string of a request's body, as (where, its kind)."""
    return [
        pytest.param(kind, id=f"{row.handler.__name__} {where}")
        for row in managed_routes()
        if (record := operation_of(row).body) is not None
        for where, kind in leaves(record, "")
    ]


def leaves(kind: Any, where: str) -> list[tuple[str, declared.Kind]]:
    match kind:
        case declared.Record():
            return [found for name, inner in kind.fields.items() for found in leaves(inner, f"{where}.{name}")]
        case declared.Nullable() | declared.About():
            return leaves(kind.kind, where)
        case _:
            return [(where, kind)]


def accepts(kind: declared.Kind, value: Any) -> bool:
    faults: declared.Faults = []
    kind.read(value, "", faults)
    return not faults


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 90_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=200),
    st.from_regex(r"\A[a-z0-9._:*/-]{0,70}\Z"),
    st.sampled_from(["v1", "token", "a", "a__b", "a___b", "admin", "read", "pull", "push", "2027-01-31T12:00:00Z"]),
    st.lists(st.sampled_from(["pull", "push", "delete", "admin", "read", "a/*", "", "A"]), max_size=4),
)


@pytest.mark.parametrize("kind", texts())
@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_described_is_what_is_accepted(kind: declared.Kind, data: st.DataObject) -> None:
    schema = dict(kind.schema())
    judge = Draft202012Validator(as_ecma(schema), format_checker=None)
    value = data.draw(VALUES | shaped(schema))
    if schema.get("format") == "date-time" and isinstance(value, str):
        return  # a form that JSON Schema has no words for beyond its name
    assert judge.is_valid(value) == accepts(kind, value), (schema, value)


def as_ecma(part: Any) -> Any:
    """A schema whose patterns mean what they mean in ECMA-262: ``$`` of Python lets a line end follow."""
    if isinstance(part, dict):
        return {
            name: re.sub(r"\$$", r"\\Z", value) if name == "pattern" else as_ecma(value) for name, value in part.items()
        }
    return part


def shaped(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Strings that come near what the schema wants."""
    wanted = schema.get("items", schema)
    pattern = wanted.get("pattern")
    near = st.from_regex(pattern.replace("$", r"\Z")) if pattern else st.sampled_from(wanted.get("enum", [""]))
    return st.lists(near, max_size=4) if schema["type"] == "array" else near
