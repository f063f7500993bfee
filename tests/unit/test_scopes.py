"""Scopes as clients really send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.auth import scopes
from regserver.auth.scopes import Scopes
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action
from regserver.model.names import RepositoryName
from support.identities import scopes_of

EMPTY = Scopes()
WIDENED = "repository:a/b:pull repository:c/d:pull,push repository:a/b:delete"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], EMPTY),
        ([""], EMPTY),
        (["repository:a/b:pull"], scopes_of("a/b:pull")),
        (["repository:a/b:push,pull"], scopes_of("a/b:pull,push")),
        (["repository:alpine:pull"], scopes_of("library/alpine:pull")),
        (["repository(plugin):a/b:pull"], scopes_of("a/b:pull")),
        (["repository:a/b:*"], scopes_of("a/b")),
        (["repository:a/b:pull", "repository:c/d:pull"], scopes_of("a/b:pull", "c/d:pull")),
        (["repository:a/b:pull repository:c/d:pull"], scopes_of("a/b:pull", "c/d:pull")),
        ([WIDENED], scopes_of("a/b:pull,delete", "c/d:pull,push")),
        (["repository:a/b:pull,own,push"], scopes_of("a/b:pull,push")),
        (["registry:catalog:*"], Scopes(catalog=True)),
        (["registry:catalog:* repository:a/b:pull"], Scopes(scopes_of("a/b:pull").repositories, catalog=True)),
    ],
    ids=str,
)
def test_a_scope_is_read(texts: list[str], expected: Scopes) -> None:
    assert scopes.parse(texts) == expected


@pytest.mark.parametrize(
    "text",
    [
        "repository",
        "repository:",
        "repository::",
        "repository:a/b",
        "repository:a/b:",
        "repository:a/b:own",
        "repository:a/b:PULL",
        "repository::pull",
        "repository:registry.example.com:5000/a/b:pull",
        "repository:A/B:pull",
        "repository:a/../b:pull",
        "repository:a/b%2fc:pull",
        "repository:\udcff/b:pull",
        "Repository:a/b:pull",
        "repository(other):a/b:pull",
        "registry:catalog:read",
        "registry:other:*",
        "artifact:a/b:pull",
        ":a/b:pull",
        "pull",
        "repository:" + "a" * 256 + ":pull",
        "\0",
    ],
)
def test_what_means_nothing_here_is_dropped(text: str) -> None:
    assert scopes.parse([text]) == EMPTY
    assert scopes.parse([f"{text} repository:a/b:pull"]) == scopes_of("a/b:pull")


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
NAMES = st.builds(lambda registry, image: RepositoryName(registry, image), COMPONENT, COMPONENT)
ACTIONS = st.frozensets(st.sampled_from(Action), min_size=1)


@given(st.dictionaries(NAMES, ACTIONS, max_size=9), st.booleans())
def test_a_scope_that_was_written_is_read_back(
    repositories: dict[RepositoryName, frozenset[Action]], all_: bool
) -> None:
    written = Scopes(repositories, all_)
    assert scopes.parse([str(written)]) == written


@given(st.lists(st.text(max_size=60), max_size=5))
def test_no_text_is_too_strange(texts: list[str]) -> None:
    assert isinstance(scopes.parse(texts), Scopes)


def test_a_token_can_hold_two_hundred_repositories_and_no_more() -> None:
    asked = [f"repository:a/i{number}:pull" for number in range(201)]
    assert len(scopes.parse(asked[:200] + asked[:200]).repositories) == 200
    with pytest.raises(RegistryError) as refused:
        scopes.parse(asked)
    assert refused.value.code is ErrorCode.REQUEST_INVALID


def test_a_token_can_not_hold_names_beyond_a_header_line() -> None:
    with pytest.raises(RegistryError) as refused:
        scopes.parse([f"repository:a/{'x' * 240}{number}:pull" for number in range(60)])
    assert refused.value.code is ErrorCode.REQUEST_INVALID
