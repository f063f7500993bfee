"""What a look at something found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and will not always
    ERROR = "error"  # somebody's push or pull fails, or data is at risk


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` is a stable word for scripts; ``next`` says what to do, and is empty only where all is well."""

    check: str
    level: Level
    message: str
    next: str = ""


Findings = Iterator[Finding]


def ok(check: str, message: str) -> Finding:
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, next_: str) -> Finding:
    return Finding(check, Level.WARNING, message, next_)


def error(check: str, message: str, next_: str) -> Finding:
    return Finding(check, Level.ERROR, message, next_)
