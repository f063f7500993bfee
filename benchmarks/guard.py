"""Has regserver lost ground? Measures a few workloads beside one other registry and compares the ratios with the last
full run's.

    python -m benchmarks.guard                          against olareg, else docker-registry; about two minutes
    python -m benchmarks.guard --against v3 --tolerance 0.2 --only push-put,get-tag
    python -m benchmarks.guard --results FILE           another run's results than benchmarks/results.json

A ratio of two servers on one machine in one run says the same on a slow machine as on a fast one, as far as anything
does. It ends with exit code 1 where a ratio is worse by more than the tolerance; it is no test of CI all the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import store
from benchmarks.figures import OURS, Kind, Table, Workload, number, spread
from benchmarks.processes import NotMeasured
from benchmarks.run import Plan, run, say
from benchmarks.scenarios.table import SCENARIOS, WORKLOADS
from benchmarks.servers import PEERS

WATCHED = ("push-put", "push-patch", "pull-1", "get-tag", "head-blob", "first-get-tag", "blobs", "manifests")
CANDIDATES = ("olareg", "2.8.2", "v3")
TOLERANCE = 0.3


@dataclasses.dataclass(frozen=True)
class Change:
    """``before`` and ``now``: how much better regserver does than the other, the lower a figure the better or not."""

    workload: str
    before: float
    now: float

    def is_worse(self, tolerance: float) -> bool:
        return self.now < self.before * (1 - tolerance)


def advantage(table: Table, workload: Workload, against: str) -> float | None:
    """Regserver's median by the other's; the other way round where less is better; None where one is missing."""
    ours = spread(table, workload.name, OURS, Kind.VALUE)
    theirs = spread(table, workload.name, against, Kind.VALUE)
    if ours is None or theirs is None or 0 in (ours.median, theirs.median):
        return None
    return theirs.median / ours.median if workload.less else ours.median / theirs.median


def compare(before: Table, now: Table, against: str, workloads: Mapping[str, Workload]) -> list[Change]:
    """Of the workloads that both have."""
    found = []
    for name in now:
        if name in workloads:
            old, new = (advantage(table, workloads[name], against) for table in (before, now))
            if old is not None and new is not None:
                found.append(Change(name, old, new))
    return found


def report(changes: Sequence[Change], against: str, tolerance: float) -> str:
    lines = [f"{'workload':20} {'before':>8} {'now':>8}   × {against}"]
    for change in changes:
        word = "worse" if change.is_worse(tolerance) else "holds"
        lines.append(f"{change.workload:20} {number(change.before):>8} {number(change.now):>8}   {word}")
    return "\n".join(lines)


def opponent(wanted: str | None) -> str:
    """The first that is installed; raises NotMeasured where none is."""
    for name in [wanted] if wanted else CANDIDATES:
        try:
            PEERS[name].program()
        except NotMeasured:
            continue
        return name
    raise NotMeasured(f"{wanted or ' and '.join(CANDIDATES)} not installed: tools/setup-clients --peers")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=list(PEERS), metavar="NAME", help=f"one of {', '.join(PEERS)}")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="N", help="0.3: a third less is too much")
    parser.add_argument("--only", default=",".join(WATCHED), metavar="NAMES", help="workloads, by commas")
    parser.add_argument("--results", type=Path, default=store.FILE, metavar="FILE", help="what is compared with")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=int, default=1, metavar="N")
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="of the large blob")
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and folders are cleaned up on that way too
    options = parse()
    try:
        against = opponent(options.against)
    except NotMeasured as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    peers = [PEERS[OURS], PEERS[against]]
    only = frozenset(options.only.split(","))
    plan = Plan(peers, SCENARIOS, options.rounds, options.seconds, options.size, only)
    changes = compare(store.read(options.results).table, run(plan, WORKLOADS).table, against, WORKLOADS)
    print(report(changes, against, options.tolerance))
    if not changes:
        print(f"error: {options.results} has nothing to compare with: run make bench first", file=sys.stderr)
        return 2
    worse = [change.workload for change in changes if change.is_worse(options.tolerance)]
    if worse:
        say(f"regserver has lost ground in {', '.join(worse)}: profile them, or run again where the machine was busy")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
