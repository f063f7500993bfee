"""What a run found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Goal, Kind, Workload, judge, number, spread
from benchmarks.run import Plan, Results


def text_report(plan: Plan, results: Results, goals: Sequence[Goal], workloads: Mapping[str, Workload]) -> str:
    """A block for each workload: servers with median, range, CPU, peak; then its goals."""
    lines: list[str] = []
    for name, servers in results.table.items():
        lines += ["", f"{name}: {workloads[name].title} ({workloads[name].unit})"]
        lines += [_line(results, workloads[name], server) for server in servers]
        for verdict in (judge(results.table, goal, workloads) for goal in goals if goal.workload == name):
            if verdict.ratio is not None:
                lines.append(f"    {verdict.goal.text}: {number(verdict.ratio)}, {verdict.word}")
    lines += [f"{what}: {why}" for what, why in results.missing.items()]
    lines.append(f"{plan.rounds} rounds in {results.seconds:.0f} s")
    return "\n".join(lines)


def _line(results: Results, workload: Workload, server: str) -> str:
    value, cpu, peak = (spread(results.table, workload.name, server, kind) for kind in Kind)
    if value is None:
        return f"  {server:10} not measured"
    line = f"  {server:10} {number(value.median):>9}  ({number(value.low)}–{number(value.high)})"
    if cpu is not None and workload.cpu_unit:
        line = f"{line:42}  CPU {number(cpu.median)} {workload.cpu_unit}"
    return line + (f"  peak {number(peak.median)} MB" if peak is not None else "")
