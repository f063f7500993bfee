"""regserver and other registries, measured side by side in one run.

    python -m benchmarks                               everything; writes benchmarks/RESULTS.md and charts
    python -m benchmarks --only image --write          one scenario anew, into the same RESULTS.md
    python -m benchmarks --quick                       within two minutes; writes nothing
    python -m benchmarks --only again,push-put --rounds 3 --peers regserver,olareg
    python -m benchmarks --list                        scenarios, workloads and servers by name

Each scenario starts each server afresh on an empty folder, in turn, round after round. Figures go to stdout as a table
with ratios and goals, progress to stderr. What is not installed is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks import store
from benchmarks.figures import OURS
from benchmarks.machine import describe, load_average, versions
from benchmarks.report import text_report, write_report
from benchmarks.run import Plan, Results, run
from benchmarks.scenarios.table import GOALS, SCENARIOS, WORKLOADS
from benchmarks.servers import PEERS
from benchmarks.store import Record

QUICK = frozenset({"push-put", "push-patch", "pull-1", "get-tag", "head-blob", "base", "first-get-tag", "start"})
QUICK_PEERS = (OURS, "2.8.2", "v3", "olareg")


def names(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names, default=[], metavar="NAMES", help="scenarios or workloads, by commas")
    parser.add_argument("--peers", type=names, default=[], metavar="NAMES", help="servers, by commas (default: all)")
    parser.add_argument("--rounds", type=int, metavar="N", help="runs of everything; the median counts (default: 3)")
    parser.add_argument("--seconds", type=int, metavar="N", help="of each kind of small request (default: 1)")
    parser.add_argument("--size", type=int, metavar="MIB", help="of the large blob (default: 1024)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where all of them keep their data")
    parser.add_argument("--write", action="store_true", help="renew RESULTS.md though not everything is measured")
    parser.add_argument("--report", action="store_true", help="write RESULTS.md from the last results, measure nothing")
    parser.add_argument("--quick", action="store_true", help="a few workloads, once, smaller")
    parser.add_argument("--list", action="store_true", help="show what there is, and end")
    options = parser.parse_args()
    known = {scenario.name for scenario in SCENARIOS} | set(WORKLOADS)
    for given, there in ((options.only, known), (options.peers, set(PEERS))):
        if unknown := set(given) - there:
            parser.error(f"unknown: {', '.join(sorted(unknown))}; --list shows what there is")
    if options.quick and options.write:
        parser.error("--quick measures less than RESULTS.md speaks of, so it cannot --write")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    quick = options.quick
    chosen = options.peers or (QUICK_PEERS if quick else list(PEERS))
    return Plan(
        [PEERS[name] for name in chosen],
        SCENARIOS,
        options.rounds or (1 if quick else 3),
        options.seconds or 1,
        options.size or (256 if quick else 1024),
        frozenset(options.only) or (QUICK if quick else frozenset()),
        options.root,
        10 if quick else 1,
    )


def record_of(plan: Plan, results: Results) -> Record:
    """With what has to be known of a run."""
    commit = plan.peers[0].version() if plan.peers[0].name == OURS else ""
    sizes = f"{plan.rounds} rounds, {plan.seconds} s each, large blob of {plan.mib} MiB"
    run = f"{time.strftime('%Y-%m-%d %H:%M')}, {sizes}, {commit}".strip(", ")
    runs = dict.fromkeys(results.table, run)
    return Record(results.table, runs, results.missing, describe(plan.root), versions(plan.peers), results.seconds)


def show_list() -> None:
    for scenario in SCENARIOS:
        print(scenario.name)
        for workload in scenario.workloads:
            print(f"    {workload.name:20} {workload.title}")
    print(f"servers: {', '.join(PEERS)}")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and folders are cleaned up on that way too
    options = parse()
    if options.list:
        show_list()
        return 0
    if not options.report:
        plan = plan_of(options)
        if load_average() > (os.cpu_count() or 1):
            print(f"warning: the machine is busy (load {load_average():.1f}); figures will be poor", file=sys.stderr)
        writes = options.write or not (options.quick or options.only or options.peers)
        before = store.read()
        # After each scenario: a run that is ended has not been for nothing.
        keep = (lambda found: store.write(before.renewed(record_of(plan, found)))) if writes else None
        record = record_of(plan, run(plan, WORKLOADS, keep=keep))
        print(text_report(record, GOALS, WORKLOADS))
        if not writes:
            return 0
        store.write(before.renewed(record))
    write_report(store.read(), SCENARIOS, GOALS, WORKLOADS)
    print("written: benchmarks/RESULTS.md, benchmarks/charts, benchmarks/results.json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
