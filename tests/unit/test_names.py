"""Repository names, tags and references (distribution spec, "Pulling manifests")."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import RepositoryName, Tag, is_image_name, is_registry_name, parse_reference

# The two expressions as the distribution spec prints them.
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

NAMES = st.lists(
    st.from_regex(r"[a-z0-9]{1,9}((\.|_|__|-{1,3})[a-z0-9]{1,9}){0,2}", fullmatch=True), min_size=1, max_size=7
).map("/".join)
NEARLY_NAMES = st.text("aZ0._-/%\\ \n", max_size=30)
A_NAME = "my-images/team/api"

MALFORMED = {
    "empty": "",
    "upper case": "My-Images/api",
    "separator first": "my-images/.api",
    "separator last": "my-images/api-",
    "two dots": "my-images/a..b",
    "three underscores": "my-images/a___b",
    "mixed separators": "my-images/a._b",
    "slash first": "/my-images/api",
    "slash last": "my-images/api/",
    "two slashes": "my-images//api",
    "up one folder": "my-images/../v1",
    "this folder": "./api",
    "still percent-encoded": "my-images%2Fapi",
    "backslash": "my-images\\api",
    "line feed": "my-images/api\n",
    "NUL": "my-images/api\0",
    "letter of another script": "my-images/аpi",
    "digit of another script": "my-images/٣",
    "tag": "my-images/api:latest",
    "host with a port": "localhost:5000/api",
    "too long": "my-images/" + "a" * 250,
    "too long with its default registry": "a" * 250,
    "registry too long": "a" * 64 + "/api",
}


@given(NAMES)
@example("a" * 247)
@example("library/" + "a" * 247)
def test_a_name_is_read_back_from_its_text(text: str) -> None:
    name = RepositoryName.parse(text)
    assert RepositoryName.parse(str(name)) == name
    assert str(name) == (text if "/" in text else f"library/{text}")


@given(NAMES | NEARLY_NAMES)
def test_what_the_spec_calls_a_name_is_one_and_nothing_else(text: str) -> None:
    if SPEC_NAME.fullmatch(text):
        assert str(RepositoryName.parse(text)).endswith(text)
    else:
        with pytest.raises(RegistryError) as refusal:
            RepositoryName.parse(text)
        assert refusal.value.code is ErrorCode.NAME_INVALID


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_name_is_refused_with_its_documented_code(text: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        RepositoryName.parse(text)
    assert (refusal.value.code, refusal.value.code.status) == (ErrorCode.NAME_INVALID, 400)


def test_the_first_component_is_the_registry_and_the_rest_the_image() -> None:
    name = RepositoryName.parse(A_NAME)
    assert (name.registry, name.image) == ("my-images", "team/api")


def test_a_name_of_one_component_is_in_the_default_registry() -> None:
    assert RepositoryName.parse("alpine") == RepositoryName.parse("library/alpine")


def test_a_name_may_have_255_characters_and_its_registry_63() -> None:
    text = "a" * 63 + "/" + "b" * 191
    assert str(RepositoryName.parse(text)) == text
    with pytest.raises(RegistryError):
        RepositoryName.parse(text + "b")


def test_a_refusal_repeats_no_more_than_a_names_length() -> None:
    with pytest.raises(RegistryError) as refusal:
        RepositoryName.parse("A" * 100_000)
    assert len(str(refusal.value.detail)) < 300


@pytest.mark.parametrize(("text", "sound"), [("my-images", True), ("a" * 63, True), ("a" * 64, False), ("a/b", False)])
def test_a_registry_is_one_component_of_at_most_63_characters(text: str, sound: bool) -> None:
    assert is_registry_name(text) is sound


@pytest.mark.parametrize(("text", "sound"), [("team/api", True), ("api", True), ("a" * 255, False), ("api/", False)])
def test_an_image_is_a_name_that_leaves_room_for_its_registry(text: str, sound: bool) -> None:
    assert is_image_name(text) is sound


@given(st.from_regex(SPEC_TAG, fullmatch=True))
def test_a_tag_is_read_back_from_its_text(text: str) -> None:
    assert str(Tag.parse(text)) == text
    assert parse_reference(text) == Tag.parse(text)


@given(st.text(max_size=140) | st.text("aA0._-:/ \n", max_size=140))
def test_what_the_spec_calls_a_tag_is_one_and_nothing_else(text: str) -> None:
    if SPEC_TAG.fullmatch(text):
        assert Tag.parse(text).text == text
    else:
        with pytest.raises(RegistryError) as refusal:
            Tag.parse(text)
        assert refusal.value.code is ErrorCode.MANIFEST_INVALID


@pytest.mark.parametrize(
    "text", ["", ".hidden", "-dash", "a" * 129, "a/b", "a b", "latest\n", "ä", "a%2fb", "..", "a\0"]
)
def test_a_malformed_tag_is_refused_with_a_documented_code(text: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        Tag.parse(text)
    assert (refusal.value.code, refusal.value.code.status) == (ErrorCode.MANIFEST_INVALID, 400)


def test_a_reference_with_a_colon_is_a_digest() -> None:
    digest = Digest.of(b"manifest")
    assert parse_reference(str(digest)) == digest


@pytest.mark.parametrize("text", ["sha256:abc", "latest:1", ":", "md5:" + "a" * 32])
def test_a_reference_with_a_colon_that_is_no_digest_is_refused_as_one(text: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        parse_reference(text)
    assert refusal.value.code is ErrorCode.DIGEST_INVALID
