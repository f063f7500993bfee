"""Digests (OCI image spec, "Digests"; distribution spec, end-2 and end-6)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Algorithm, Digest

DIGESTS = st.one_of(
    st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda digits: Digest(f"sha256:{digits}")),
    st.text("0123456789abcdef", min_size=128, max_size=128).map(lambda digits: Digest(f"sha512:{digits}")),
)
HEX = "0123456789abcdef" * 4

MALFORMED = {
    "empty": "",
    "no algorithm": HEX,
    "no digits": "sha256:",
    "too short": f"sha256:{HEX[1:]}",
    "too long": f"sha256:{HEX}0",
    "sha512's length under sha256": f"sha256:{HEX}{HEX}",
    "sha256's length under sha512": f"sha512:{HEX}",
    "upper-case digits": f"sha256:{HEX.upper()}",
    "upper-case algorithm": f"SHA256:{HEX}",
    "not hexadecimal": f"sha256:{'g' * 64}",
    "digits of another script": f"sha256:{'٣' * 64}",
    "line feed at the end": f"sha256:{HEX}\n",
    "space before": f" sha256:{HEX}",
    "NUL": f"sha256:{HEX[:-1]}\0",
    "path": f"sha256:../../{HEX[6:]}",
    "algorithm that is not registered": f"md5:{HEX[:32]}",
    "registered, not accepted here": f"blake3:{HEX}",
    "multihash": f"sha256+b64u:{HEX}",
    "two": f"sha256:{HEX}:{HEX}",
}


@given(DIGESTS)
def test_a_digest_is_read_back_from_its_text(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest
    assert f"{digest.algorithm}:{digest.hex}" == str(digest)


@given(st.binary(max_size=1000), st.sampled_from(Algorithm))
def test_the_digest_of_content_is_its_algorithms_output(content: bytes, algorithm: Algorithm) -> None:
    digest = Digest.of(content, algorithm)
    assert digest.hex == hashlib.new(algorithm.value, content).hexdigest()
    assert digest.algorithm is algorithm
    assert Digest.parse(digest.text) == digest


@given(st.text(max_size=150).filter(lambda text: not text.startswith(("sha256:", "sha512:"))))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        Digest.parse(text)
    assert refusal.value.code is ErrorCode.DIGEST_INVALID


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_digest_is_refused_with_its_documented_code(text: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        Digest.parse(text)
    assert (refusal.value.code, refusal.value.code.status) == (ErrorCode.DIGEST_INVALID, 400)


def test_a_refusal_repeats_no_more_than_a_digests_length() -> None:
    with pytest.raises(RegistryError) as refusal:
        Digest.parse("sha256:" + "x" * 100_000)
    assert len(str(refusal.value.detail)) < 200


@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_both_registered_algorithms_are_accepted(name: str) -> None:
    assert Algorithm.parse(name).value == name
    assert Algorithm.parse(name).hasher().hexdigest() == hashlib.new(name).hexdigest()


@pytest.mark.parametrize("name", ["", "md5", "sha1", "SHA256", "sha256 ", "sha-256", "sha384", "../sha256"])
def test_another_algorithm_is_refused(name: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        Algorithm.parse(name)
    assert refusal.value.code is ErrorCode.DIGEST_INVALID


def test_a_digest_cannot_change() -> None:
    digest = Digest.of(b"content")
    with pytest.raises(AttributeError):
        digest.text = "sha256:"  # type: ignore[misc]
