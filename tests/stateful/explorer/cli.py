"""The explorer for a person: what holds, what is caught, and the shortest way to any mistake's damage."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from .accidents import Store
from .mutants import MUTANTS
from .scenarios import SCENARIOS
from .search import Verdict, explore
from .tables import PROOF, with_tables

Job = tuple[str, str]  # a scenario and a mutant, or no mutant

EXAMPLES = """\
examples:
  explorer_cli.py                                     everything; about a minute on two cores
  explorer_cli.py "index"                             one scenario
  explorer_cli.py "same repository" "HEAD takes no lease"
                                                      one mutant, with a shortest trace to what it breaks
  explorer_cli.py --list                              what there is
  explorer_cli.py --tables                            write the tables of docs/gc-proof.md anew

It ends with 1 if a scenario does not hold or a mutant is not caught.
"""


def run(job: Job) -> tuple[Job, Verdict]:
    """One search, in a process of its own."""
    scenario, mutant = job
    return job, explore(MUTANTS[mutant].build(scenario) if mutant else Store(SCENARIOS[scenario]))


def show(job: Job, verdict: Verdict, trace: bool) -> None:
    """One line for a search and, if wanted, its trace."""
    scenario, mutant = job
    size = f"{verdict.states:>9,} states {verdict.steps:>10,} steps {verdict.seconds:6.1f} s"
    print(f"{mutant or 'the store':46} {scenario:28} {size}  {verdict.broken or 'holds'}", flush=True)
    if trace and verdict.trace:
        print(verdict.story(), flush=True)


def run_all(jobs: Sequence[Job], workers: int, trace: bool) -> list[tuple[Job, Verdict]]:
    """Searches side by side, the long ones first, each shown as it ends."""
    by_size = sorted(jobs, key=lambda job: (bool(job[1]), -SCENARIOS[job[0]].states))
    done = []
    with ProcessPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run, job) for job in by_size]):
            job, verdict = future.result()
            show(job, verdict, trace)
            done.append((job, verdict))
    return done


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explorer_cli.py",
        description="Explores every state that the blob store can reach, with all clients, collectors and accidents.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="?", choices=[*SCENARIOS], metavar="SCENARIO", help="only this one")
    parser.add_argument("mutant", nargs="?", choices=[*MUTANTS], metavar="MUTANT", help="and with this mistake")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--traces", action="store_true", help="print the trace of every mutant")
    parser.add_argument("--matrix", action="store_true", help="every mutant under every scenario (an hour)")
    parser.add_argument("--list", action="store_true", help="name the scenarios and mutants")
    parser.add_argument("--tables", action="store_true", help="write the tables of docs/gc-proof.md anew")
    return parser


def _list() -> None:
    for title, scenario in SCENARIOS.items():
        print(f"{title:48} {scenario.about}")
    print()
    for title, mutant in MUTANTS.items():
        print(f"{title:48} {mutant.breaks}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if everything is as it must be."""
    asked = _arguments().parse_args(arguments)
    if asked.list:
        _list()
        return 0
    if asked.tables:
        PROOF.write_text(with_tables(PROOF.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    if asked.matrix:
        run_all([(scenario, mutant) for mutant in MUTANTS for scenario in SCENARIOS], asked.jobs, asked.traces)
        return 0
    jobs = [(asked.scenario, asked.mutant or "")] if asked.scenario else _everything()
    done = run_all(jobs, asked.jobs, asked.traces or bool(asked.scenario))
    return _judge(done)


def _everything() -> list[Job]:
    return [(scenario, "") for scenario in SCENARIOS] + [(each.scenario, title) for title, each in MUTANTS.items()]


def _judge(done: Sequence[tuple[Job, Verdict]]) -> int:
    wrong = [job for job, verdict in done if bool(verdict.broken) != bool(job[1])]
    print(f"{len(done) - len(wrong)} of {len(done)} as they must be")
    for scenario, mutant in wrong:
        print(f"not as it must be: {mutant or 'the store'} under {scenario}", file=sys.stderr)
    return 1 if wrong else 0
