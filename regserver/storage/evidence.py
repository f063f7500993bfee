"""What an answer rests on: the rows that were read for it, until when the clock lets it stand, what giving it notes.

Collected while one request runs, for whoever may want to give the same answer again. An answer that is a function of
these and of its request is the one that would be made now, as long as the same reads find the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from regserver.storage.sql.port import Row

MOST_READS = 16
MOST_ROWS = 32

Read = tuple[str, Mapping[str, Any], list[Row]]  # statement, what was bound, what it found


@dataclass(slots=True)
class Evidence:
    """``state``: of the catalog, before the first read. ``until``: seconds since 1970. ``once``: never to be given
    again, because it was more than an answer. ``strict``: to be made from reading alone, or not at all."""

    state: int
    reads: list[Read] = field(default_factory=list)
    until: float = math.inf
    notes: list[Callable[[], None]] = field(default_factory=list)
    once: bool = False
    strict: bool = False


class Impure(Exception):
    """The answer would take more than reading."""


class Witness(Protocol):
    """A database that can tell at once, in this thread, whether what was read still is so."""

    def state(self) -> int | None:
        """A number that differs whenever anybody, in any process, has committed since; None: it cannot be told now."""

    def agrees(self, reads: Iterable[Read]) -> bool:
        """Whether each of these reads finds now what it found then."""


_current: ContextVar[Evidence | None] = ContextVar("evidence", default=None)


@contextmanager
def collecting(evidence: Evidence) -> Iterator[None]:
    before = _current.set(evidence)
    try:
        yield
    finally:
        _current.reset(before)


def read(sql: str, bound: Mapping[str, Any], rows: list[Row]) -> None:
    """One statement, answered from committed state."""
    evidence = _current.get()
    if evidence is not None:
        evidence.reads.append((sql, bound, rows))
        evidence.once |= len(rows) > MOST_ROWS or len(evidence.reads) > MOST_READS


def until(seconds: float) -> None:
    """The answer holds no longer than that by the clock (since 1970)."""
    evidence = _current.get()
    if evidence is not None:
        evidence.until = min(evidence.until, seconds)


def note(effect: Callable[[], None]) -> None:
    """Does what belongs to every such answer, in memory only: it is done again whenever the answer is given again."""
    effect()
    evidence = _current.get()
    if evidence is not None:
        evidence.notes.append(effect)


def once() -> None:
    """The request is about to write, to be counted, or to read what is no evidence. Raises Impure where that is not
    wanted; nothing has been done then."""
    evidence = _current.get()
    if evidence is not None:
        evidence.once = True
        if evidence.strict:
            raise Impure
