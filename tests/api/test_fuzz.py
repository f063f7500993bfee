"""Whatever a request says, the server does not fail: below 500, in the form of the API, and the connection is sound."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.pushing import Registry, digest_of, push_blob
from support.wire import connected, head, length

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"])
PIECES = st.sampled_from(
    [
        "a",
        "b",
        "/",
        "//",
        "..",
        ".",
        "%2F",
        "%00",
        "%0A",
        "%FF",
        "%25",
        "%",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "sha256:",
        "?",
        "&",
        "=",
        "n=",
        "last=",
        "digest=",
        "mount=",
        "from=",
        "tag=",
        "1",
        "-1",
        ":",
        "@",
        "*",
        "{",
        "}",
        "+",
        ";",
        "#",
        "00000000000000000000000000000000",
    ]
)
WORDS = st.lists(PIECES, max_size=4).map("".join)
ROUTES = st.sampled_from(
    ["/blobs/", "/blobs/uploads/", "/manifests/", "/referrers/", "/tags/list", "/tags/list?", "/manifests/v1?tag=", ""]
)
PATHS = st.tuples(st.just("/v2/a") | st.just("/v2/"), WORDS, ROUTES, WORDS, st.just("?") | st.just(""), WORDS).map(
    "".join
)
NAMES = st.sampled_from(
    [
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "Content-Range",
        "Content-Type",
        "Content-Encoding",
        "Authorization",
        "Expect",
        "Accept",
        "Upgrade",
        "Connection",
        "Cookie",
        "X-Forwarded-For",
        "Origin",
    ]
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@SLOW
@given(method=METHODS, path=PATHS, headers=HEADERS, body=st.binary(max_size=50))
async def test_no_request_makes_the_server_fail(
    registry: Registry, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    async with connected(registry) as wire:
        lines = [f"{name}: {value}" for name, value in headers]
        await wire.send(head(method, path, *lines, length(body)), body)
        answer = await wire.answer(method)
        if answer.status == 100:
            answer = await wire.answer(method)
    assert answer.status < 500
    ours = answer.head.startswith("HTTP/1.1") and answer.status != 417  # what the framework's parser refuses is not
    if ours and answer.status >= 400 and answer.body:
        assert answer.json["errors"][0]["code"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(digest_of(b""))
KEYS = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "blobs",
        "subject",
        "annotations",
        "artifactType",
        "digest",
        "size",
    ]
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6)
)


@SLOW
@given(document=DOCUMENTS)
async def test_no_manifest_makes_the_server_fail(registry: Registry, document: object) -> None:
    await push_blob(registry, "a/b", b"")
    content = json.dumps(document).encode()
    answer = await registry.send("PUT", "/v2/a/b/manifests/v1", data=content)
    assert answer.status in (201, 400, 404)
    if answer.status == 201:
        read = await registry.send("GET", answer.headers["Location"])
        assert (read.status, read.body) == (200, content)
        assert (await registry.send("DELETE", answer.headers["Location"])).status == 202


@pytest.mark.parametrize("body", [b"\x00" * 1000, b"\x1f\x8b" + b"x" * 100, "ü".encode(), b"[" * 10**6])
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "GET"])
async def test_no_body_makes_the_server_fail(registry: Registry, method: str, body: bytes) -> None:
    for path in ("/v2/", "/v2/a/b/manifests/v1", "/v2/a/b/tags/list", "/v2/_catalog", "/v2/x", "/token"):
        assert (await registry.send(method, path, data=body)).status < 500
