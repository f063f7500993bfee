"""Figures and what is made of them: medians, ranges, ratios, and whether a goal is met. Pure."""

from __future__ import annotations

import dataclasses
import enum
import statistics
from collections.abc import Iterable, Mapping
from typing import Any


class Kind(enum.Enum):
    """What of a workload is compared."""

    VALUE = "value"
    CPU = "cpu"
    PEAK = "peak"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run of one workload against one server. ``value`` in the workload's unit; ``cpu``: seconds of the server per
    GiB or microseconds per request, as the workload says; ``peak``: MB of memory."""

    value: float
    cpu: float | None = None
    peak: float | None = None


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some runs, the lowest and the highest."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        known = list(values)
        return cls(statistics.median(known), min(known), max(known), len(known)) if known else None


@dataclasses.dataclass(frozen=True)
class Workload:
    """``name`` as --only takes it. ``less``: the lower, the better."""

    name: str
    title: str
    unit: str
    less: bool = False
    cpu_unit: str = ""


@dataclasses.dataclass(frozen=True)
class Goal:
    """``kind`` of regserver compared with ``factor`` times that of ``against``, or with ``factor`` where it is "".

    ``at_most``: regserver's may not be more; otherwise not less. ``against`` may be "fastest": the best of the others;
    ``other`` names the workload compared with where that is another one.
    """

    workload: str
    factor: float
    against: str
    kind: Kind = Kind.VALUE
    at_most: bool = False
    other: str = ""

    @property
    def text(self) -> str:
        sign = "≤" if self.at_most else "≥"
        what = {Kind.VALUE: "", Kind.CPU: "CPU ", Kind.PEAK: "peak RSS "}[self.kind]
        versus = f" × {self.against}" if self.against else ""
        return f"{what}{sign} {self.factor:g}{versus}" + (f" ({self.other})" if self.other else "")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``ratio``: regserver's median by the other's, or regserver's median itself where there is no other."""

    goal: Goal
    ratio: float | None
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


Table = dict[str, dict[str, list[Sample]]]
"""Samples by workload and server."""

OURS = "regserver"
LIMITS = frozenset({"nginx", "limit"})


def spread(table: Mapping[str, Mapping[str, list[Sample]]], workload: str, server: str, kind: Kind) -> Spread | None:
    samples = table.get(workload, {}).get(server, [])
    return Spread.of(value for one in samples if (value := getattr(one, kind.value)) is not None)


def fastest(table: Table, workload: Workload) -> str:
    """The server that did best, neither regserver nor a limit; "" where there is none."""
    found = {
        server: known.median
        for server in table.get(workload.name, {})
        if server != OURS and server not in LIMITS
        if (known := spread(table, workload.name, server, Kind.VALUE)) is not None
    }
    if not found:
        return ""
    return min(found, key=lambda server: found[server] if workload.less else -found[server])


def judge(table: Table, goal: Goal, workloads: Mapping[str, Workload]) -> Verdict:
    """Whether the goal is met; neither where one of its figures is missing."""
    ours = spread(table, goal.workload, OURS, goal.kind)
    if ours is None:
        return Verdict(goal, None, None)
    if not goal.against:
        ratio = ours.median
    else:
        other = goal.other or goal.workload
        against = fastest(table, workloads[other]) if goal.against == "fastest" else goal.against
        theirs = spread(table, other, against, goal.kind)
        if theirs is None or theirs.median == 0:
            return Verdict(goal, None, None)
        ratio = ours.median / theirs.median
    return Verdict(goal, ratio, ratio <= goal.factor if goal.at_most else ratio >= goal.factor)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def dump(table: Table) -> dict[str, Any]:
    """As JSON keeps it."""
    return {
        workload: {server: [dataclasses.asdict(one) for one in samples] for server, samples in servers.items()}
        for workload, servers in table.items()
    }


def load(known: Mapping[str, Any]) -> Table:
    """What ``dump`` made."""
    return {
        workload: {server: [Sample(**one) for one in samples] for server, samples in servers.items()}
        for workload, servers in known.items()
    }
