"""Globs over image names: which images a robot reaches.

``*`` is any text within one part of a name, ``**`` as the last part is everything below. A glob is well-formed only if
some image can match it: a typing error must not look like a rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from regserver.model.names import MAX_REPOSITORY_LENGTH

MAX_GLOBS = 50
MAX_GLOB_LENGTH = MAX_REPOSITORY_LENGTH
_WORD = r"(?:\*|\*?[a-z0-9]+(?:\*[a-z0-9]+)*\*?)"
_PART = rf"{_WORD}(?:(?:\.|_|__|-+){_WORD})*"
GLOB = rf"(?:{_PART}/)*(?:{_PART}|\*\*)"

_GLOB = re.compile(GLOB, re.ASCII)
_BELOW = "**"


def is_glob(text: str) -> bool:
    return len(text) <= MAX_GLOB_LENGTH and _GLOB.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Globs:
    """Well-formed globs. None of them reaches nothing."""

    patterns: tuple[str, ...]

    def reach(self, image: str) -> bool:
        """Whether one of them matches the whole name of an image, without its registry's."""
        parts = image.split("/")
        return any(_matches(pattern.split("/"), parts) for pattern in self.patterns)


def _matches(wanted: list[str], parts: list[str]) -> bool:
    if wanted[-1] == _BELOW:
        above = len(wanted) - 1
        return len(parts) > above and _matches_each(wanted[:-1], parts[:above])
    return _matches_each(wanted, parts)


def _matches_each(wanted: list[str], parts: list[str]) -> bool:
    return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))
