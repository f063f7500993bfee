"""Globs over image names: what they reach, and what is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regserver.model.globs import GLOB, MAX_GLOB_LENGTH, Globs, is_glob
from regserver.model.names import PATH

NAMES = st.from_regex(re.compile(rf"{PATH}", re.ASCII), fullmatch=True).filter(lambda name: len(name) < 200)


@pytest.mark.parametrize(
    ("glob", "image", "reached"),
    [
        ("api", "api", True),
        ("api", "apis", False),
        ("api", "team/api", False),
        ("api", "api/team", False),
        ("*", "api", True),
        ("*", "team/api", False),
        ("team/*", "team/api", True),
        ("team/*", "team/api/debug", False),
        ("team/*", "team", False),
        ("team/*", "steam/api", False),
        ("team/**", "team/api", True),
        ("team/**", "team/api/debug", True),
        ("team/**", "team", False),
        ("team/**", "teams/api", False),
        ("**", "api", True),
        ("**", "team/api/debug", True),
        ("*/api", "team/api", True),
        ("*/api", "api", False),
        ("*/api", "a/b/api", False),
        ("api-*", "api-v1", True),
        ("api-*", "api", False),
        ("*-ci", "team-ci", True),
        ("v*.x", "v1.2.x", True),
        ("v*.x", "v1/x", False),
        ("a*b*c", "a1b2c", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
    ],
)
def test_a_star_stays_within_its_part_of_the_name(glob: str, image: str, reached: bool) -> None:
    assert is_glob(glob)
    assert Globs((glob,)).reach(image) is reached


def test_any_of_several_will_do() -> None:
    globs = Globs(("web", "team/*"))
    assert [globs.reach(image) for image in ("web", "team/api", "api")] == [True, True, False]


def test_none_reaches_nothing() -> None:
    assert not Globs(()).reach("api")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/api",
        "api/",
        "a//b",
        "API",
        "a b",
        "a?",
        "[a-z]",
        "a**",
        "**a",
        "**/api",
        "a/**/b",
        "***",
        "-api",
        "api-",
        "a..b",
        ".",
        "..",
        "../b",
        "a\n",
        "é",
        "a" * (MAX_GLOB_LENGTH + 1),
    ],
)
def test_what_no_image_can_match_is_no_glob(text: str) -> None:
    assert not is_glob(text)


@given(NAMES)
def test_every_name_is_a_glob_that_reaches_itself_alone(name: str) -> None:
    assert is_glob(name)
    assert Globs((name,)).reach(name)
    assert not Globs((name,)).reach(name + "x")
    assert not Globs((name,)).reach(name + "/x")


def test_a_long_glob_is_judged_at_once() -> None:
    """Nothing here may backtrack: a glob is matched with every request of its robot."""
    stars = "a*" * 100 + "b"
    assert is_glob(stars)
    assert not Globs((stars,)).reach("a" * 250)
    assert re.fullmatch(GLOB, "a*" * 127 + "!") is None
