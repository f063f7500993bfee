"""end-4, 5, 6, 11, 13, 14: a blob arrives whole, streamed, in chunks, or is mounted."""

import re
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.pushing import OCTETS, Registry, digest_of, make_content, push_blob, start_upload

UPLOADS = "/v2/a/b/blobs/uploads/"
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


async def is_stored(registry: Registry, content: bytes, algorithm: str = "sha256", repository: str = "a/b") -> bool:
    answer = await registry.send("GET", f"/v2/{repository}/blobs/{digest_of(content, algorithm)}")
    return (answer.status, answer.body) == (200, content)


async def streamed(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def chunk(start: int, content: bytes) -> dict[str, str]:
    return {"Content-Range": f"{start}-{start + len(content) - 1}", "Content-Type": OCTETS}


async def test_end_4a_post_opens_an_empty_session(registry: Registry) -> None:
    answer = await registry.send("POST", UPLOADS)
    assert answer.status == 202
    assert re.fullmatch(UPLOADS + "[0-9a-f]{32}", answer.headers["Location"])
    assert answer.headers["Range"] == "0-0"
    assert answer.headers["Docker-Upload-UUID"] == answer.headers["Location"].rpartition("/")[2]


async def test_sessions_are_told_apart_by_128_random_bits(registry: Registry) -> None:
    assert len({await start_upload(registry, "a/b") for _ in range(20)}) == 20


@ALGORITHMS
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_end_4b_one_post_brings_the_whole_blob(registry: Registry, algorithm: str, size: int) -> None:
    content = make_content(size) if size else b""
    digest = digest_of(content, algorithm)
    answer = await registry.send("POST", UPLOADS, query={"digest": digest}, data=content)
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v2/a/b/blobs/{digest}"
    assert answer.headers["Docker-Content-Digest"] == digest
    assert await is_stored(registry, content, algorithm)


@pytest.mark.parametrize("algorithm", ["", "?digest-algorithm=sha256", "?digest-algorithm=sha512"])
@pytest.mark.parametrize("closing", ["sha256", "sha512"])
async def test_the_algorithm_of_the_post_does_not_bind_the_closing_put(
    registry: Registry, algorithm: str, closing: str
) -> None:
    content = make_content(200_000)
    location = (await registry.send("POST", UPLOADS + algorithm)).headers["Location"]
    assert (await registry.send("PATCH", location, data=content)).status == 202
    answer = await registry.send("PUT", location, query={"digest": digest_of(content, closing)})
    assert answer.status == 201
    assert await is_stored(registry, content, closing)


async def test_end_5_a_stream_without_a_length_is_taken(registry: Registry) -> None:
    pieces = [make_content(70_000) for _ in range(20)]
    location = await start_upload(registry, "a/b")
    answer = await registry.send("PATCH", location, data=streamed(pieces))
    content = b"".join(pieces)
    assert answer.status == 202
    assert answer.headers["Range"] == f"0-{len(content) - 1}"
    assert answer.headers["Location"] == location
    done = await registry.send("PUT", location, query={"digest": digest_of(content)})
    assert done.status == 201
    assert done.headers["Location"] == f"/v2/a/b/blobs/{digest_of(content)}"
    assert await is_stored(registry, content)


async def test_end_6_put_may_bring_the_only_chunk(registry: Registry) -> None:
    content = make_content(3000)
    answer = await registry.send(
        "PUT", await start_upload(registry, "a/b"), query={"digest": digest_of(content)}, data=content
    )
    assert answer.status == 201
    assert await is_stored(registry, content)


async def test_end_6_put_may_bring_the_last_chunk(registry: Registry) -> None:
    first, last = make_content(3000), make_content(2000)
    location = await start_upload(registry, "a/b")
    assert (await registry.send("PATCH", location, data=first, headers=chunk(0, first))).status == 202
    query = {"digest": digest_of(first + last)}
    done = await registry.send("PUT", location, data=last, headers=chunk(len(first), last), query=query)
    assert done.status == 201
    assert await is_stored(registry, first + last)


@pytest.mark.parametrize("form", ["{}-{}", "bytes {}-{}/*", "bytes {}-{}/6000", "bytes={}-{}"])
async def test_end_5_the_range_of_a_chunk_may_be_written_as_http_has_it(registry: Registry, form: str) -> None:
    location = await start_upload(registry, "a/b")
    answer = await registry.send("PATCH", location, data=b"x" * 3000, headers={"Content-Range": form.format(0, 2999)})
    assert (answer.status, answer.headers["Range"]) == (202, "0-2999")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("start", [0, 999, 1001, 10**18])
async def test_end_5_a_chunk_out_of_order_is_refused_and_the_session_goes_on(
    registry: Registry, method: str, start: int
) -> None:
    first, second = make_content(1000), make_content(500)
    location = await start_upload(registry, "a/b")
    await registry.send("PATCH", location, data=first, headers=chunk(0, first))
    query = {"digest": digest_of(first + second)}
    answer = await registry.send(method, location, data=second, headers=chunk(start, second), query=query)
    assert answer.refusal == (416, "BLOB_UPLOAD_INVALID")
    assert (answer.headers["Range"], answer.headers["Location"]) == ("0-999", location)
    status = await registry.send("GET", location, query=query)
    assert (status.status, status.headers["Range"]) == (204, "0-999")
    assert (await registry.send("PUT", location, data=second, headers=chunk(1000, second), query=query)).status == 201
    assert await is_stored(registry, first + second)


@pytest.mark.parametrize("claimed", ["0-998", "0-1000", "0-0"])
async def test_a_chunk_is_as_long_as_its_range_or_nothing_of_it_is_kept(registry: Registry, claimed: str) -> None:
    location = await start_upload(registry, "a/b")
    answer = await registry.send("PATCH", location, data=make_content(1000), headers={"Content-Range": claimed})
    assert answer.refusal == (400, "SIZE_INVALID")
    assert (await registry.send("GET", location)).headers["Range"] == "0-0"


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_stream_is_as_long_as_its_range_claims(registry: Registry, pieces: int) -> None:
    location = await start_upload(registry, "a/b")
    answer = await registry.send(
        "PATCH", location, data=streamed([b"x" * 500] * pieces), headers={"Content-Range": "0-999"}
    )
    assert answer.refusal == (400, "SIZE_INVALID")


@pytest.mark.parametrize(
    "claimed", ["", "0", "-", "0-", "-5", "5-2", "a-b", "0-3,4-7", "0-3x", "bytes 0-3 0-3", "0-" + "9" * 40, "٠-٩"]
)
async def test_a_range_that_is_none_is_refused(registry: Registry, claimed: str) -> None:
    location = await start_upload(registry, "a/b")
    answer = await registry.send("PATCH", location, data=b"x" * 4, headers={"Content-Range": claimed})
    assert answer.refusal == (400, "BLOB_UPLOAD_INVALID")
    assert (await registry.send("GET", location)).headers["Range"] == "0-0"


@ALGORITHMS
async def test_finish_rejects_a_digest_that_does_not_match_and_the_session_is_gone(
    registry: Registry, algorithm: str
) -> None:
    content = make_content()
    location = await start_upload(registry, "a/b")
    await registry.send("PATCH", location, data=content)
    answer = await registry.send("PUT", location, query={"digest": digest_of(b"other", algorithm)})
    assert answer.refusal == (400, "DIGEST_INVALID")
    assert (await registry.send("GET", location)).refusal == (404, "BLOB_UPLOAD_UNKNOWN")
    assert not await is_stored(registry, content)


async def test_a_single_post_rejects_a_digest_that_does_not_match(registry: Registry) -> None:
    content = make_content()
    answer = await registry.send("POST", UPLOADS, query={"digest": digest_of(b"other")}, data=content)
    assert answer.refusal == (400, "DIGEST_INVALID")
    assert not await is_stored(registry, content)


@pytest.mark.parametrize("digest", ["", "sha256", "sha256:", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_malformed_digest_is_refused_and_the_session_lives(
    registry: Registry, method: str, digest: str
) -> None:
    location = await start_upload(registry, "a/b")
    path = location if method == "PUT" else UPLOADS
    answer = await registry.send(method, path, query={"digest": digest}, data=b"content")
    assert answer.refusal == (400, "DIGEST_INVALID")
    assert (await registry.send("GET", location)).status == 204


async def test_a_put_without_a_digest_is_refused(registry: Registry) -> None:
    answer = await registry.send("PUT", await start_upload(registry, "a/b"), data=b"content")
    assert answer.refusal == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("query", ["?digest={0}&digest={0}", "?digest=%00", "?digest=%FF", "?digest-algorithm=md5"])
async def test_a_query_that_is_not_clear_is_refused(registry: Registry, query: str) -> None:
    answer = await registry.send("POST", UPLOADS + query.format(digest_of(b"")))
    assert answer.status == 400


async def test_end_13_the_status_of_a_session_is_where_it_stands(registry: Registry) -> None:
    location = await start_upload(registry, "a/b")
    assert (await registry.send("GET", location)).headers["Range"] == "0-0"
    await registry.send("PATCH", location, data=b"x" * 10)
    answer = await registry.send("GET", location)
    assert (answer.status, answer.body) == (204, b"")
    assert (answer.headers["Range"], answer.headers["Location"]) == ("0-9", location)


async def test_end_14_a_cancelled_session_is_gone(registry: Registry) -> None:
    location = await start_upload(registry, "a/b")
    assert (await registry.send("DELETE", location)).status == 204
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        query = {"digest": digest_of(b"")} if method == "PUT" else {}
        assert (await registry.send(method, location, query=query)).refusal == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize(
    "upload", ["x", "0" * 31, "0" * 33, "A" * 32, "0" * 32, "..", "%2e%2e", "%00", "0" * 31 + "%0A"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_a_session_that_is_none_is_unknown(registry: Registry, method: str, upload: str) -> None:
    await start_upload(registry, "a/b")
    answer = await registry.send(method, UPLOADS + upload + f"?digest={digest_of(b'')}")
    assert answer.status == 404


async def test_a_session_belongs_to_its_repository(registry: Registry) -> None:
    location = await start_upload(registry, "a/b")
    answer = await registry.send("GET", location.replace("/a/b/", "/a/c/"))
    assert answer.refusal == (404, "BLOB_UPLOAD_UNKNOWN")


@ALGORITHMS
async def test_end_11_a_blob_is_mounted_from_where_it_is(registry: Registry, algorithm: str) -> None:
    content = make_content()
    digest = await push_blob(registry, "other/source", content, algorithm=algorithm)
    answer = await registry.send("POST", UPLOADS, query={"mount": digest, "from": "other/source"})
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/a/b/blobs/{digest}")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert await is_stored(registry, content, algorithm)


async def test_end_11_without_from_any_repository_of_the_same_registry_serves(registry: Registry) -> None:
    content = make_content()
    digest = await push_blob(registry, "a/source", content)
    assert (await registry.send("POST", UPLOADS, query={"mount": digest})).status == 201
    assert await is_stored(registry, content)


@pytest.mark.parametrize("query", [{"from": "a/source"}, {"from": "nothing/here"}, {}])
async def test_end_11_what_cannot_be_mounted_is_uploaded(registry: Registry, query: dict[str, str]) -> None:
    content = make_content()
    await push_blob(registry, "a/source", b"other")
    await push_blob(registry, "elsewhere/source", content)
    answer = await registry.send("POST", UPLOADS, query={"mount": digest_of(content), **query})
    assert answer.status == 202
    done = await registry.send("PUT", answer.headers["Location"], query={"digest": digest_of(content)}, data=content)
    assert done.status == 201


@pytest.mark.parametrize(
    ("query", "code"),
    [({"mount": "x"}, "DIGEST_INVALID"), ({"mount": digest_of(b""), "from": "../etc"}, "NAME_INVALID")],
)
async def test_a_malformed_mount_is_refused(registry: Registry, query: dict[str, str], code: str) -> None:
    assert (await registry.send("POST", UPLOADS, query=query)).refusal == (400, code)


async def test_patches_add_up_whatever_the_session_hashes_with(registry: Registry) -> None:
    content = make_content(5000)
    location = await start_upload(registry, "a/b", **{"digest-algorithm": "sha512"})
    await registry.send("PATCH", location, data=content[:2000])
    await registry.send("PATCH", location, data=content[2000:])
    assert (await registry.send("PUT", location, query={"digest": digest_of(content)})).status == 201
    assert await is_stored(registry, content)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x, identity", "GZIP"])
@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
async def test_a_coded_body_is_refused_not_decoded(registry: Registry, method: str, coding: str) -> None:
    location = await start_upload(registry, "a/b") if method != "POST" else UPLOADS
    headers = {"Content-Encoding": coding}
    answer = await registry.send(method, location, query={"digest": digest_of(b"x")}, data=b"x", headers=headers)
    assert answer.refusal == (415, "UNSUPPORTED")
    assert not await is_stored(registry, b"x")


async def test_identity_is_no_coding(registry: Registry) -> None:
    headers = {"Content-Encoding": "identity"}
    answer = await registry.send("POST", UPLOADS, query={"digest": digest_of(b"x")}, data=b"x", headers=headers)
    assert answer.status == 201


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3000), max_size=6), closing=st.integers(0, 3000), bare=st.booleans())
async def test_any_chunking_gives_the_same_blob(registry: Registry, sizes: list[int], closing: int, bare: bool) -> None:
    location, content = await start_upload(registry, "a/b"), b""
    for size in sizes:
        piece = make_content(size)[:size]
        headers = {} if bare or not piece else chunk(len(content), piece)
        answer = await registry.send("PATCH", location, data=piece, headers=headers)
        content += piece
        assert answer.headers["Range"] == f"0-{max(len(content) - 1, 0)}"
    last = make_content(closing)[:closing]
    query = {"digest": digest_of(content + last)}
    assert (await registry.send("PUT", location, data=last, query=query)).status == 201
    assert await is_stored(registry, content + last)
