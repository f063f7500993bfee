"""Runs scenarios against servers in turn: every round, each scenario, each server, on a folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from subprocess import SubprocessError

from benchmarks.clients import Load
from benchmarks.figures import Sample, Table, Workload, number
from benchmarks.processes import NotMeasured
from benchmarks.scenarios.base import Bench, Scenario
from benchmarks.scenarios.starting import limits
from benchmarks.servers import Peer

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """``only``: names of scenarios and workloads, all where it is empty."""

    peers: Sequence[Peer]
    scenarios: Sequence[Scenario]
    rounds: int
    seconds: int
    mib: int
    only: frozenset[str] = frozenset()
    root: Path | None = None
    shrink: int = 1

    def wants(self, scenario: Scenario, workload: str) -> bool:
        return not self.only or scenario.name in self.only or workload in self.only

    def bench(self, folder: Path, load: Load, scenario: Scenario) -> Bench:
        return Bench(folder, load, self.seconds, self.mib, partial(self.wants, scenario), self.shrink)

    def chosen(self) -> list[Scenario]:
        return [each for each in self.scenarios if any(self.wants(each, one.name) for one in each.workloads)]


@dataclasses.dataclass
class Results:
    """``missing``: what could not be measured and why, each line once."""

    table: Table = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add(self, workload: str, server: str, sample: Sample) -> None:
        self.table.setdefault(workload, {}).setdefault(server, []).append(sample)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def usable(peers: Sequence[Peer], results: Results) -> list[Peer]:
    """Those that are installed; the others are lines in the report."""
    found = []
    for peer in peers:
        try:
            peer.program()
            found.append(peer)
        except NotMeasured as error:
            results.missing[peer.name] = str(error)
            say(f"{peer.name} is left out: {error}")
    return found


Keep = Callable[["Results"], None]


def run(plan: Plan, workloads: Mapping[str, Workload], tell: Say = say, keep: Keep | None = None) -> Results:
    """Scenarios outermost, so that all servers meet the machine in the same minute, then rounds, then servers."""
    results, began = Results(), time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):  # what has been measured so far is reported
        _run(plan, workloads, tell, results, keep)
    results.seconds = time.monotonic() - began
    return results


def _run(plan: Plan, workloads: Mapping[str, Workload], tell: Say, results: Results, keep: Keep | None) -> None:
    began = time.monotonic()
    peers, scenarios = usable(plan.peers, results), plan.chosen()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.root) as name:
        load = Load(Path(name))
        for place, scenario in enumerate(scenarios, 1):
            bench = plan.bench(Path(name), load, scenario)
            for turn, peer in _turns(plan, peers, scenario):
                head = f"[{place}/{len(scenarios)} {time.monotonic() - began:4.0f} s] {scenario.name} {turn + 1}"
                _measure(results, bench, scenario, peer, partial(_tell, tell, head, workloads))
            if keep is not None:
                results.seconds = time.monotonic() - began
                keep(results)
        for _ in range(plan.rounds):
            for workload, sample in limits(Path(name), plan.mib):
                results.add(workload, "limit", sample)


def _turns(plan: Plan, peers: Sequence[Peer], scenario: Scenario) -> Iterator[tuple[int, Peer]]:
    """Every round begins with another server."""
    taken = [peer for peer in peers if scenario.takes(peer)]
    for turn in range(plan.rounds):
        start = turn % max(1, len(taken))
        yield from ((turn, peer) for peer in (*taken[start:], *taken[:start]))


def _tell(tell: Say, head: str, workloads: Mapping[str, Workload], server: str, workload: str, found: float) -> None:
    tell(f"{head} {server:10} {workload:14} {number(found):>9} {workloads[workload].unit}")


def _measure(
    results: Results, bench: Bench, scenario: Scenario, peer: Peer, tell: Callable[[str, str, float], None]
) -> None:
    """A failure is a line in the report; the servers that come after it are measured all the same."""
    try:
        with peer.serve(bench.folder / "server") as server:
            for workload, sample in scenario.run(bench, server, peer):
                results.add(workload, peer.name, sample)
                tell(peer.name, workload, sample.value)
    except (NotMeasured, OSError, HTTPException, SubprocessError, ValueError, LookupError) as error:
        results.missing[f"{peer.name}, {scenario.name}"] = " ".join(str(error).split())[:300]
        say(f"{peer.name}, {scenario.name}: not measured: {error}")
