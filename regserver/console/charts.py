"""Figures of the drawings: shares of a width, and the arc of a ring. The drawing itself is SVG in the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

RING_RADIUS = 42
RING_LENGTH = 2 * pi * RING_RADIUS
COLOURS = 6  # of the parts of a stack, in turn
LEAST = 0.6  # per cent: a part that is there is seen


def share(part: int, whole: int) -> float:
    """Per cent, between 0 and 100, to a tenth."""
    return 0.0 if whole <= 0 else round(max(0.0, min(100.0, part * 100 / whole)), 1)


def bar(part: int, whole: int) -> float:
    """The same for a bar: what is there at all is seen."""
    return max(LEAST, share(part, whole)) if part > 0 else 0.0


def arc(part: int, whole: int) -> str:
    """``stroke-dasharray`` of a ring that is filled so far."""
    filled = RING_LENGTH * share(part, whole) / 100
    return f"{filled:.2f} {RING_LENGTH - filled:.2f}"


def level(part: int, whole: int | None) -> str:
    """How a quota stands: ``calm``, ``near`` from 90 per cent on, ``full``."""
    if not whole or part * 10 <= whole * 9:
        return "calm"
    return "full" if part >= whole else "near"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stack: where it begins and how wide it is, in per cent."""

    start: float
    width: float
    colour: int
    place: int


def stack(sizes: Sequence[int]) -> list[Part]:
    """Parts beside each other that fill the width together."""
    whole, start, parts = sum(sizes), 0.0, []
    for place, one in enumerate(sizes):
        width = one * 100 / whole if whole else 0.0
        parts.append(Part(round(start, 2), round(width, 2), place % COLOURS, place))
        start += width
    return parts
