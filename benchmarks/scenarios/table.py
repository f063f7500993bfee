"""All scenarios, in the order in which they are measured and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Goal, Workload
from benchmarks.scenarios import bulk, small
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.starting import LIMIT_WORKLOADS, Starting

SCENARIOS: Sequence[Scenario] = (
    *bulk.SCENARIOS,
    small.Again(),
    small.First(),
    small.Busy(),
    Starting(),
)
GOALS: Sequence[Goal] = tuple(goal for scenario in SCENARIOS for goal in scenario.goals)
WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (*(each for scenario in SCENARIOS for each in scenario.workloads), *LIMIT_WORKLOADS)
}
