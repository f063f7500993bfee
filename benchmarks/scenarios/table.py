"""All scenarios, in the order in which they are measured and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Goal, Workload
from benchmarks.scenarios import bulk, small
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.collecting import Collecting
from benchmarks.scenarios.durable import Durable
from benchmarks.scenarios.images import Images
from benchmarks.scenarios.starting import LIMIT_WORKLOADS, Starting
from benchmarks.scenarios.tags import Tags
from benchmarks.scenarios.tokens import Tokens

SCENARIOS: Sequence[Scenario] = (
    *bulk.SCENARIOS,
    small.Again(),
    small.First(),
    small.Busy(),
    Durable(),
    Tags(),
    Tokens(),
    Images(),
    Collecting(),
    Starting(),
)
GOALS: Sequence[Goal] = tuple(goal for scenario in SCENARIOS for goal in scenario.goals)
WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (*(each for scenario in SCENARIOS for each in scenario.workloads), *LIMIT_WORKLOADS)
}
