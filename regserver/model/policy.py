"""What a registry does with its tags: which cannot move, which go by themselves, what an untagged manifest is worth.

Patterns are globs over a whole tag, case counts: ``*`` is any text, ``?`` one character, ``[a-z]`` one of these,
``[!a-z]`` one that is none of them. Pure: values, matching, and the form that the catalog and the API show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

MAX_PATTERN_LENGTH = 128  # a tag's
MAX_PATTERNS = 50
PATTERN = r"(?:[a-zA-Z0-9._*?-]|\[!?[a-zA-Z0-9._-]+\])+"

_PATTERN = re.compile(PATTERN, re.ASCII)

Document = Mapping[str, Any]


class PolicyRefused(ValueError):
    """A policy that would do nothing, or everything. ``field`` names the part, the text says what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def is_pattern(text: str) -> bool:
    """Whether it can match a tag at all: an unclosed bracket, or a slash, would only look like protection."""
    return len(text) <= MAX_PATTERN_LENGTH and _PATTERN.fullmatch(text) is not None


def matching(tag: str, patterns: tuple[str, ...]) -> str | None:
    """The first pattern that matches the whole tag."""
    return next((pattern for pattern in patterns if fnmatchcase(tag, pattern)), None)


@dataclass(frozen=True, slots=True)
class Immutability:
    """Tags that match a pattern, and none of ``exceptions``, keep naming what they name.

    Raises PolicyRefused without a pattern: it would only look like protection.
    """

    patterns: tuple[str, ...]
    exceptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.patterns:
            raise PolicyRefused("policy.immutable_tags.patterns", "must hold a pattern")

    def protects(self, tag: str) -> str | None:
        """The pattern that holds the tag, else None."""
        return None if matching(tag, self.exceptions) else matching(tag, self.patterns)


@dataclass(frozen=True, slots=True)
class Retention:
    """Rules that keep tags; what none of them keeps goes. ``keep_last``: of each image; ``keep_days``: 24 hours each.

    Raises PolicyRefused without both of them: then even what was pushed a moment ago would go.
    """

    keep_last: int | None = None
    keep_days: int | None = None
    keep_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keep_last is None and self.keep_days is None:
            raise PolicyRefused("policy.retention", "must hold keep_last or keep_days")


@dataclass(frozen=True, slots=True)
class Policy:
    """The default does nothing."""

    immutable: Immutability | None = None
    retention: Retention | None = None
    keep_untagged: bool = False

    @classmethod
    def of(cls, document: Document) -> Policy:
        """From the form below, whole. Raises ValueError, KeyError, TypeError for anything else: it is never guessed."""
        immutable, retention = document["immutable_tags"], document["retention"]
        return cls(
            None if immutable is None else Immutability(_texts(immutable["patterns"]), _texts(immutable["except"])),
            None
            if retention is None
            else Retention(retention["keep_last"], retention["keep_days"], _texts(retention["keep_tags"])),
            bool(document["keep_untagged"]),
        )

    @property
    def document(self) -> dict[str, Any]:
        """As the management API shows it."""
        immutable, retention = self.immutable, self.retention
        return {
            "immutable_tags": immutable
            and {"patterns": list(immutable.patterns), "except": list(immutable.exceptions)},
            "retention": retention
            and {
                "keep_last": retention.keep_last,
                "keep_days": retention.keep_days,
                "keep_tags": list(retention.keep_tags),
            },
            "keep_untagged": self.keep_untagged,
        }

    def changed(self, changes: Document | None) -> Policy:
        """With what the changes name; the rest stays (RFC 7396), and None takes all of it away.

        Raises PolicyRefused where the result could not stand.
        """
        if changes is None:
            return Policy()
        merged = {**_NOTHING, **_merged(self.document, changes)}
        for part, blank in _BLANKS.items():
            if merged[part] is not None:
                merged[part] = {
                    name: rest if merged[part].get(name) is None else merged[part][name] for name, rest in blank.items()
                }
        return Policy.of(merged)


_NOTHING: Document = {"immutable_tags": None, "retention": None, "keep_untagged": False}
_BLANKS: Mapping[str, Document] = {
    "immutable_tags": {"patterns": [], "except": []},
    "retention": {"keep_last": None, "keep_days": None, "keep_tags": []},
}


def _merged(document: Document, changes: Document) -> dict[str, Any]:
    result = dict(document)
    for name, value in changes.items():
        there = result.get(name)
        result[name] = _merged(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return result


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("not a list of texts")
    return tuple(values)
