"""The plan of retention, held against the rules written down again: what any rule keeps is never in it."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.content.retention import plan
from regserver.model.policy import Immutability, Policy, Retention
from regserver.storage.catalog.pulls import TagFacts

HEX = "0123456789abcdef" * 4
NAMES = ["v1", "v2", "v3", "latest", "dev-1", "dev-2", f"sha256-{HEX}", f"sha256-{HEX[::-1]}.sig", f"sha512-{HEX}.att"]
FLOOR = 50
patterns = st.sampled_from(["v*", "dev-?", "latest", "*", "sha256-*", "nothing"])
some_patterns = st.lists(patterns, max_size=2).map(tuple)


@st.composite
def facts(draw: st.DrawFn) -> list[TagFacts]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    orders = draw(st.permutations(range(len(names))))
    epochs = st.integers(FLOOR - 2, FLOOR + 2)
    return [
        TagFacts(name, f"sha256:{HEX}", order, 0, draw(epochs), *draw(_pulls(epochs)), draw(st.integers(0, 1)))
        for name, order in zip(names, orders, strict=True)
    ]


def _pulls(epochs: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int | None, int | None]]:
    return st.just((None, None)) | st.tuples(st.just(0), epochs)


@st.composite
def retentions(draw: st.DrawFn) -> Retention:
    last, days = draw(st.none() | st.integers(1, 4)), draw(st.none() | st.integers(1, 4))
    return Retention(last if days is not None or last is not None else 1, days, draw(some_patterns))


immutabilities = st.none() | st.builds(
    Immutability, st.lists(patterns, min_size=1, max_size=2).map(tuple), some_patterns
)
policies = st.builds(Policy, immutabilities, retentions(), st.booleans())


def matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def keepers(policy: Policy, tag: TagFacts, everything: list[TagFacts]) -> set[str]:
    """The names of the rules that keep a tag."""
    immutable, retention = policy.immutable, policy.retention
    assert retention is not None
    found = set()
    if immutable and matches(tag.name, immutable.patterns) and not matches(tag.name, immutable.exceptions):
        found.add("immutable")
    newer = [other for other in everything if other.order > tag.order and not other.name.startswith("sha")]
    if retention.keep_last is not None and not tag.name.startswith("sha") and len(newer) < retention.keep_last:
        found.add("last")
    if retention.keep_days is not None and max(tag.pushed_epoch, tag.pulled_epoch or 0) >= FLOOR:
        found.add("days")
    if matches(tag.name, retention.keep_tags):
        found.add("tags")
    if tag.name.startswith("sha") and tag.described:
        found.add("companion")
    return found


@given(policies, facts())
def test_what_any_rule_keeps_stays_and_all_else_goes(policy: Policy, found: list[TagFacts]) -> None:
    fates = plan(policy, found, FLOOR)
    assert [fate.tag for fate in fates] == found
    assert [fate.keep for fate in fates] == [bool(keepers(policy, tag, found)) for tag in found]
    assert all(fate.reason for fate in fates)


@given(policies, facts(), st.data())
def test_a_plan_of_some_tags_keeps_what_a_plan_of_all_keeps(
    policy: Policy, found: list[TagFacts], data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.sampled_from(found), unique=True) if found else st.just([]))
    kept = {fate.tag.name for fate in plan(policy, found, FLOOR) if fate.keep}
    assert {fate.tag.name for fate in plan(policy, some, FLOOR) if not fate.keep}.isdisjoint(kept)


@given(immutabilities, facts())
def test_without_retention_everything_stays(immutable: Immutability | None, found: list[TagFacts]) -> None:
    assert all(fate.keep for fate in plan(Policy(immutable), found, FLOOR))


def tag(name: str, order: int, *, pushed: int = 0, pulled: int | None = None, described: int = 0) -> TagFacts:
    return TagFacts(name, f"sha256:{HEX}", order, 0, pushed, None, pulled, described)


COMPANION = f"sha256-{HEX}.sig"


@pytest.mark.parametrize(
    ("policy", "one", "reason"),
    [
        (Policy(retention=Retention(1)), tag("v1", 9), "one of the 1 pushed last"),
        (Policy(retention=Retention(1)), tag("v1", 0), "not one of the 1 pushed last"),
        (Policy(retention=Retention(None, 3)), tag("v1", 0, pushed=50), "pushed within 3 days"),
        (Policy(retention=Retention(None, 3)), tag("v1", 0, pulled=50), "pulled within 3 days"),
        (Policy(retention=Retention(None, 3)), tag("v1", 0), "neither pushed nor pulled within 3 days"),
        (Policy(retention=Retention(1, None, ("v*",))), tag("v1", 0), "it matches v*"),
        (Policy(Immutability(("v*",)), Retention(1)), tag("v1", 0), "immutable: it matches v*"),
        (Policy(retention=Retention(1)), tag(COMPANION, 0, described=1), "what it belongs to is there"),
        (Policy(retention=Retention(1)), tag(COMPANION, 9), "what it belongs to is gone"),
        (Policy(), tag("v1", 0), "no retention is set"),
        (
            Policy(retention=Retention(1, 2, ("x", "y"))),
            tag("v1", 0),
            "not one of the 1 pushed last; neither pushed nor pulled within 2 days; matches none of x, y",
        ),
    ],
)
def test_a_plan_says_why(policy: Policy, one: TagFacts, reason: str) -> None:
    assert plan(policy, [tag("other", 5), one], FLOOR)[1].reason == reason
