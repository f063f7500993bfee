"""end-2 and end-10: blobs are read whole and in part, asked about, and deleted."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.pushing import OCTETS, Registry, digest_of, make_content, push_blob, push_image

LARGE = 300_000  # beyond what is read and sent at once
SIZES = pytest.mark.parametrize("size", [1, 5000, LARGE])


def blob(digest: str) -> str:
    return f"/v2/a/b/blobs/{digest}"


@SIZES
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_end_2_get_sends_the_blob_as_it_was_pushed(registry: Registry, size: int, algorithm: str) -> None:
    content = make_content(size)
    digest = await push_blob(registry, "a/b", content, algorithm=algorithm)
    answer = await registry.send("GET", blob(digest))
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Type"] == OCTETS
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@SIZES
async def test_end_2_head_says_what_get_would_and_sends_nothing(registry: Registry, size: int) -> None:
    content = make_content(size)
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("HEAD", blob(digest))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["ETag"] == f'"{digest}"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_empty_blob_is_a_blob(registry: Registry, method: str) -> None:
    digest = await push_blob(registry, "a/b", b"")
    answer = await registry.send(method, blob(digest))
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


async def test_end_2_a_blob_that_is_not_there_is_unknown(registry: Registry) -> None:
    await push_blob(registry, "a/b")
    answer = await registry.send("GET", blob(digest_of(b"never pushed")))
    assert answer.refusal == (404, "BLOB_UNKNOWN")


async def test_a_blob_is_read_only_where_it_is_linked(registry: Registry) -> None:
    digest = await push_blob(registry, "a/b")
    await push_blob(registry, "a/other")
    answer = await registry.send("GET", f"/v2/a/other/blobs/{digest}")
    assert answer.refusal == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, None),
        ("bytes=-500", -500, None),
        ("bytes=2000-999999999999999999999999", 2000, None),
        ("BYTES=7-8", 7, 8),
        ("bytes=-999999999", 0, None),
    ],
)
@pytest.mark.parametrize("size", [4000, LARGE])
async def test_one_range_is_answered_with_that_part(
    registry: Registry, asked: str, first: int, last: int | None, size: int
) -> None:
    content = make_content(size)
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("GET", blob(digest), headers={"Range": asked})
    start = first if first >= 0 else size + first
    end = size - 1 if last is None else last
    assert (answer.status, answer.body) == (206, content[start : end + 1])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{size}"
    assert answer.headers["Content-Length"] == str(end + 1 - start)
    assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("asked", ["bytes=2000-", "bytes=5000-10000", "bytes=500-0", "bytes=-0", f"bytes={10**40}-"])
async def test_a_range_outside_is_refused_with_the_size(registry: Registry, asked: str) -> None:
    digest = await push_blob(registry, "a/b", make_content(2000))
    answer = await registry.send("GET", blob(digest), headers={"Range": asked})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */2000"


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,3-4", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes", "bytes=0x1-2", "bytes=1-2-3", "-"],
)
async def test_what_is_not_one_range_is_answered_whole(registry: Registry, asked: str) -> None:
    content = make_content(2000)
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("GET", blob(digest), headers={"Range": asked})
    assert (answer.status, answer.body) == (200, content)


async def test_two_range_headers_are_answered_whole(registry: Registry) -> None:
    content = make_content(2000)
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("GET", blob(digest), headers=[("Range", "bytes=0-1"), ("Range", "bytes=2-3")])
    assert (answer.status, answer.body) == (200, content)


async def test_a_range_is_ignored_by_head(registry: Registry) -> None:
    digest = await push_blob(registry, "a/b", make_content(2000))
    answer = await registry.send("HEAD", blob(digest), headers={"Range": "bytes=0-1"})
    assert (answer.status, answer.headers["Content-Length"]) == (200, "2000")


async def test_if_range_of_other_content_is_answered_whole(registry: Registry) -> None:
    content = make_content(2000)
    digest = await push_blob(registry, "a/b", content)
    headers = {"Range": "bytes=0-1", "If-Range": f'"{digest_of(b"")}"'}
    answer = await registry.send("GET", blob(digest), headers=headers)
    assert (answer.status, answer.body) == (200, content)


async def test_if_range_of_this_content_is_answered_in_part(registry: Registry) -> None:
    content = make_content(2000)
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("GET", blob(digest), headers={"Range": "bytes=0-1", "If-Range": f'"{digest}"'})
    assert (answer.status, answer.body) == (206, content[:2])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
async def test_if_none_match_of_this_content_is_answered_304(registry: Registry, method: str, form: str) -> None:
    digest = await push_blob(registry, "a/b")
    answer = await registry.send(method, blob(digest), headers={"If-None-Match": form.format(digest)})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == f'"{digest}"'


async def test_if_none_match_of_other_content_is_answered_whole(registry: Registry) -> None:
    content = make_content()
    digest = await push_blob(registry, "a/b", content)
    answer = await registry.send("GET", blob(digest), headers={"If-None-Match": f'"{digest_of(b"")}"'})
    assert (answer.status, answer.body) == (200, content)


async def test_end_10_delete_ends_a_blob_at_once(registry: Registry) -> None:
    digest = await push_blob(registry, "a/b")
    assert (await registry.send("DELETE", blob(digest))).status == 202
    for method in ("HEAD", "GET"):
        assert (await registry.send(method, blob(digest))).status == 404
    assert (await registry.send("DELETE", blob(digest))).refusal == (404, "BLOB_UNKNOWN")


async def test_end_10_a_blob_in_use_stays_and_the_answer_names_its_user(registry: Registry) -> None:
    image = await push_image(registry, "a/b", "v1")
    layer = image.document["layers"][0]["digest"]
    answer = await registry.send("DELETE", blob(layer))
    assert answer.refusal == (405, "DENIED")
    assert image.digest in answer.body.decode()
    assert (await registry.send("GET", blob(layer))).status == 200


async def test_a_pull_ends_bit_exact_though_the_blob_is_deleted_and_collected_meanwhile(registry: Registry) -> None:
    content = make_content(40_000_000)  # more than the sockets' buffers hold
    digest = await push_blob(registry, "a/b", content)
    async with registry.client.get(blob(digest)) as response:
        received = await response.content.readexactly(1000)
        assert (await registry.send("DELETE", blob(digest))).status == 202
        received += await response.content.read()
    assert received == content


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_range_is_what_slicing_gives(registry: Registry, data: st.DataObject) -> None:
    content = b"0123456789" * 30
    digest = await push_blob(registry, "a/b", content)
    start = data.draw(st.integers(0, 299))
    end = data.draw(st.integers(start, 10**20))
    answer = await registry.send("GET", blob(digest), headers={"Range": f"bytes={start}-{end}"})
    assert (answer.status, answer.body) == (206, content[start : end + 1])
