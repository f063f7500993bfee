"""What is no acceptable request of /v1, before any rule is asked. Nothing of it is kept."""

import json

import pytest

from regserver.mgmt.body import MAX_BYTES
from support.managing import JSON, call, make_registry, refusal
from support.pushing import Registry

SENDERS = pytest.mark.parametrize(("method", "rest"), [("POST", ""), ("PATCH", "/{}")])


MALFORMED = (
    b"",
    b"{",
    b"[]",
    b'"a"',
    b"null",
    b'{"name": "a", "name": "b"}',
    b'{"name": "a", "quota": {"storage_gb": NaN}}',
    b'{"name": "a", "quota": {"storage_gb": Infinity}}',
    b'{"name": "a"} {}',
    b'{"name": "\xff"}',
    b'\xef\xbb\xbf{"name": "a"}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"name": "a", "quota": {"storage_gb": ' + b"9" * 5000 + b"}}",
)


async def test_a_body_that_is_not_one_json_object_is_malformed(registry: Registry) -> None:
    for body in MALFORMED:
        answer = await registry.send("POST", "/v1/registries", data=body, headers=JSON)
        assert refusal(answer) == (400, "malformed_json"), body[:50]
    assert (await call(registry, "GET", "/registries")).json["meta"]["total"] == 0


OTHER_TYPES = ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "text/json", "")


@SENDERS
async def test_a_body_of_another_type_is_refused(registry: Registry, method: str, rest: str) -> None:
    path = "/v1/registries" + rest.format(await make_registry(registry, "a"))
    for content_type in OTHER_TYPES:
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await registry.send(method, path, data=b'{"public": true}', headers=headers)
        assert refusal(answer) == (415, "media_type_unsupported"), content_type


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "APPLICATION/JSON"])
async def test_json_is_taken_however_its_type_is_written(registry: Registry, content_type: str) -> None:
    answer = await registry.send(
        "POST", "/v1/registries", data=b'{"name": "a"}', headers={"Content-Type": content_type}
    )
    assert answer.status == 201


async def test_a_compressed_body_is_refused_unread(registry: Registry) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    answer = await registry.send("POST", "/v1/registries", data=b"\x1f\x8b", headers=headers)
    assert refusal(answer) == (415, "encoding_unsupported")


@SENDERS
async def test_a_body_over_the_limit_is_refused(registry: Registry, method: str, rest: str) -> None:
    identity = await make_registry(registry, "a")
    fitting, larger = (json.dumps({"x": "a" * size}).encode() for size in (MAX_BYTES - 9, MAX_BYTES - 8))
    path = "/v1/registries" + rest.format(identity)
    assert len(fitting) == MAX_BYTES
    assert (await registry.send(method, path, data=fitting, headers=JSON)).status == 422
    assert refusal(await registry.send(method, path, data=larger, headers=JSON)) == (413, "body_too_large")


async def test_a_refusal_does_not_repeat_what_was_sent(registry: Registry) -> None:
    answer = await call(registry, "POST", "/registries", {"name": "Secret-Value", "public": "Secret-Value"})
    assert answer.status == 422
    assert b"Secret-Value" not in answer.body


async def test_a_path_that_is_nothing_is_404_and_a_method_that_is_nothing_405(registry: Registry) -> None:
    nothing = await call(registry, "GET", "/colours")
    method = await call(registry, "PUT", "/registries", {})
    assert (refusal(nothing), refusal(method)) == ((404, "not_found"), (405, "unsupported"))
    assert set(method.headers["Allow"].split(", ")) >= {"GET", "POST"}
