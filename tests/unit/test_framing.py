"""Where a body ends, however its bytes are cut into pieces."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regserver.web.framing import Chunked, Counted, Framing

BEHIND = b"GET /v2/ HTTP/1.1\r\n\r\n"
EXTENSIONS = st.sampled_from([b"", b";a", b' ; name="a value"', b";a=b;c=d"])
TRAILERS = st.sampled_from([b"", b"X-Checksum: 1\r\n", b"A: 1\r\nB: \r\n"])


def decoded(framing: Framing, received: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """The body, and what stood behind it."""
    edges = sorted({0, len(received), *(cut for cut in cuts if cut < len(received))})
    body, pieces = b"", [received[start:end] for start, end in itertools.pairwise(edges)]
    while pieces and not framing.complete:
        body += b"".join(framing.decode(memoryview(pieces.pop(0))))
    return body, framing.rest + b"".join(pieces)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    extension=EXTENSIONS,
    trailers=TRAILERS,
    cuts=st.lists(st.integers(1, 2000), max_size=20),
    upper=st.booleans(),
)
@example(chunks=[b"\r\n0\r\n\r\n"], extension=b"", trailers=b"", cuts=list(range(1, 60)), upper=False)
def test_chunks_are_told_from_what_stands_between_them_and_behind_them(
    chunks: list[bytes], extension: bytes, trailers: bytes, cuts: list[int], upper: bool
) -> None:
    first = b"begun"
    sizes = [f"{len(chunk):{'X' if upper else 'x'}}".encode() for chunk in chunks]
    sent = first + b"".join(
        b"\r\n" + size + extension + b"\r\n" + chunk for size, chunk in zip(sizes, chunks, strict=True)
    )
    framing = Chunked(len(first))
    assert decoded(framing, sent + b"\r\n0\r\n" + trailers + b"\r\n" + BEHIND, cuts) == (
        first + b"".join(chunks),
        BEHIND,
    )
    assert (framing.complete, framing.broken) == (True, False)


@given(cuts=st.lists(st.integers(1, 60), max_size=10))
def test_of_a_counted_body_not_one_byte_more_is_taken(cuts: list[int]) -> None:
    framing = Counted(20)
    assert decoded(framing, bytes(20) + BEHIND, cuts) == (bytes(20), BEHIND)


@pytest.mark.parametrize(
    "behind",
    [
        b"\n5\r\n",
        b"5\r\n",
        b"\r\n5\nabcde",
        b"\r\n5\r\r\n",
        b"\r\n\r\n",
        b"\r\n-5\r\n",
        b"\r\n+5\r\n",
        b"\r\n0x5\r\n",
        b"\r\n5 \r\n",
        b"\r\n 5\r\n",
        b"\r\n5_0\r\n",
        b"\r\n" + b"0" * 16 + b"\r\n",
        b"\r\n5;a\nb\r\n",
        b"\r\n5;" + b"a" * 5000,
        b"\r\n0\r\nno trailer\r\n\r\n",
        b"\r\n0\r\n" + b"a: b\r\n" * 4000,
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_what_is_no_chunk_breaks_the_body_and_nothing_behind_it_is_looked_at(behind: bytes, step: int) -> None:
    framing = Chunked(3)
    body, _ = decoded(framing, b"abc" + behind + BEHIND, list(range(step, 40_000, step)))
    assert (framing.complete, framing.broken, framing.rest, body) == (True, True, b"", b"abc")


@pytest.mark.parametrize(("received", "sure"), [(b"", 9), (b"ab", 1), (b"ab\r\n", 1), (b"ab\r\n5\r\n", 12)])
def test_it_waits_for_no_more_than_will_come(received: bytes, sure: int) -> None:
    framing = Chunked(2)
    framing.decode(memoryview(received))
    assert framing.sure == sure
