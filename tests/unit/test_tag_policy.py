"""Policies as values: what patterns match, and how a policy changes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.model.names import TAG
from regserver.model.policy import PATTERN, Immutability, Policy, PolicyRefused, Retention, is_pattern, matching

tags = st.from_regex(re.compile(f"^(?:{TAG})$", re.ASCII), fullmatch=True)
patterns = st.from_regex(re.compile(f"^(?:{PATTERN})$", re.ASCII), fullmatch=True).filter(is_pattern)
immutabilities = st.builds(
    Immutability, st.lists(patterns, min_size=1, max_size=3).map(tuple), st.lists(patterns, max_size=3).map(tuple)
)
retentions = st.builds(
    Retention, st.integers(1, 100), st.none() | st.integers(1, 100), st.lists(patterns, max_size=3).map(tuple)
)
policies = st.builds(Policy, st.none() | immutabilities, st.none() | retentions, st.booleans())


@pytest.mark.parametrize(
    ("pattern", "tag", "matches"),
    [
        ("v*", "v1.2", True),
        ("v*", "dev1", False),
        ("v*", "V1", False),
        ("*", "latest", True),
        ("v?", "v1", True),
        ("v?", "v10", False),
        ("v[0-9]*", "v1-rc", True),
        ("v[0-9]*", "vx", False),
        ("v[!0-9]", "vx", True),
        ("v[!0-9]", "v1", False),
        ("1.0", "1.0", True),
        ("1.0", "1x0", False),
        ("release-*-lts", "release-7-lts", True),
        ("release-*-lts", "release-7", False),
    ],
)
def test_a_pattern_matches_the_whole_tag(pattern: str, tag: str, matches: bool) -> None:
    assert is_pattern(pattern)
    assert (matching(tag, (pattern,)) == pattern) is matches


@pytest.mark.parametrize("text", ["", "v[1", "v]", "team/*", "v 1", "v*\n", "v[]", "v[!]", "a" * 129, "{a,b}", "ü"])
def test_what_can_match_no_tag_is_no_pattern(text: str) -> None:
    assert not is_pattern(text)


@given(tags)
def test_every_tag_is_a_pattern_that_matches_itself(tag: str) -> None:
    assert is_pattern(tag)
    assert matching(tag, (tag,)) == tag


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert matching("a" * 128, ("*a" * 63 + "*b",)) is None


def test_an_exception_outweighs_every_pattern() -> None:
    immutable = Immutability(("v*", "release-*"), ("v0.*",))
    assert [immutable.protects(tag) for tag in ("v1", "release-1", "v0.1", "latest")] == ["v*", "release-*", None, None]


@given(policies)
def test_a_policy_comes_back_from_the_form_it_is_shown_in(policy: Policy) -> None:
    assert Policy.of(policy.document) == policy
    assert Policy().changed(policy.document) == policy


@given(policies, policies)
def test_a_change_with_all_parts_replaces_all_of_them(before: Policy, after: Policy) -> None:
    assert before.changed(after.document) == after


def test_a_policy_does_nothing_at_first() -> None:
    assert Policy().document == {"immutable_tags": None, "retention": None, "keep_untagged": False}


FULL = Policy(Immutability(("v*",), ("v0",)), Retention(5, 30, ("keep-*",)), True)


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, FULL),
        (None, Policy()),
        ({"keep_untagged": False}, Policy(FULL.immutable, FULL.retention)),
        ({"immutable_tags": None}, Policy(None, FULL.retention, True)),
        ({"immutable_tags": {"except": None}}, Policy(Immutability(("v*",)), FULL.retention, True)),
        ({"immutable_tags": {"patterns": ["x"]}}, Policy(Immutability(("x",), ("v0",)), FULL.retention, True)),
        ({"retention": {"keep_last": None}}, Policy(FULL.immutable, Retention(None, 30, ("keep-*",)), True)),
        ({"retention": {"keep_tags": None}}, Policy(FULL.immutable, Retention(5, 30), True)),
        ({"retention": None}, Policy(FULL.immutable, None, True)),
    ],
)
def test_a_change_leaves_what_it_does_not_name(changes: Any, after: Policy) -> None:
    assert FULL.changed(changes) == after


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"retention": {}}, "policy.retention"),
        ({"retention": {"keep_tags": ["v*"]}}, "policy.retention"),
        ({"immutable_tags": {}}, "policy.immutable_tags.patterns"),
        ({"immutable_tags": {"except": ["v*"]}}, "policy.immutable_tags.patterns"),
    ],
)
def test_a_policy_that_keeps_nothing_or_protects_nothing_is_refused(changes: Any, field: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        Policy().changed(changes)
    assert refused.value.field == field


def test_taking_away_the_last_rule_of_retention_is_refused() -> None:
    with pytest.raises(PolicyRefused):
        FULL.changed({"retention": {"keep_last": None, "keep_days": None}})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"immutable_tags": {"patterns": "v*", "except": []}, "retention": None, "keep_untagged": False},
        {"immutable_tags": {"patterns": ["v*"]}, "retention": None, "keep_untagged": False},
        {"immutable_tags": None, "retention": {"keep_last": 1}, "keep_untagged": False},
        {"immutable_tags": None, "retention": {"keep_last": None, "keep_days": None, "keep_tags": []}}
        | {"keep_untagged": False},
    ],
)
def test_a_document_that_is_not_whole_is_never_guessed(document: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Policy.of(document)
