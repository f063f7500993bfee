"""What was measured, as text for a terminal and as RESULTS.md with its charts. Pure but for the last function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.charts import Panel, bars
from benchmarks.figures import OURS, Goal, Kind, Spread, Table, Verdict, Workload, judge, number, spread
from benchmarks.notes import NOTES
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.starting import LIMIT_WORKLOADS
from benchmarks.store import Record

HERE = Path(__file__).parent
ORDER = (OURS, "olareg", "v3", "2.8.2", "zot", "nginx", "limit")
INTRO = """\
# regserver beside other registries

Made by `make bench`: every server started afresh on an empty folder, in turn, round after round, on one machine; plain
HTTP over loopback. Figures are medians with their range. regserver runs as it ships, credentials asked for and every
answer to a push on the disk before it is given; the others run as their documentation starts them, with no
credentials. nginx serves files of the same sizes: the limit of what is read. "limit" is the machine's own.
"""
COMMANDS = """\
## Anew

`make bench` runs all of it, `python -m benchmarks --only NAME,… --write` a part of it into the same file, and
`python -m benchmarks --list` shows the names. What is compared is installed by `tools/setup-clients --peers`.

| server | how it is started |
|---|---|
| regserver | `regserver serve --root DIR --listen 127.0.0.1:PORT` |
| olareg | `olareg serve --addr 127.0.0.1 --port PORT --dir DIR --api-delete` |
| v3, 2.8.2 | `registry serve FILE`: a folder, descriptors cached, deletion on, log and health as by default |
| zot | `zot serve FILE`: a folder, log level info, no extensions |
| nginx | `sendfile`, `open_file_cache`, no access log, a worker for each core |

Clients: `benchmarks/ask.c` for small requests (64 connections that stay open, two threads), `benchmarks/load.c` for
blobs and manifests (a thread for each connection; what is pulled is dropped in the kernel), `skopeo` and `docker`
themselves. CPU and memory are the server's and its children's, from /proc.
"""


def text_report(record: Record, goals: Sequence[Goal], workloads: Mapping[str, Workload]) -> str:
    """A block for each workload: servers with median, range, CPU, peak; then its goals."""
    lines: list[str] = []
    for name, servers in record.table.items():
        lines += ["", f"{name}: {workloads[name].title} ({workloads[name].unit})"]
        lines += [_line(record.table, workloads[name], server) for server in servers]
        for verdict in (judge(record.table, goal, workloads) for goal in goals if goal.workload == name):
            if verdict.ratio is not None:
                lines.append(f"    {verdict.goal.text}: {number(verdict.ratio)}, {verdict.word}")
    lines += ["", *(f"{what}: {why}" for what, why in record.missing.items())]
    return "\n".join([*lines, summary(verdicts(record.table, goals, workloads)), f"{record.seconds:.0f} s"])


def _line(table: Table, workload: Workload, server: str) -> str:
    value, cpu, peak = (spread(table, workload.name, server, kind) for kind in Kind)
    if value is None:
        return f"  {server:10} not measured"
    span = f"  ({number(value.low)}–{number(value.high)})" if value.count > 1 else ""
    line = f"  {server:10} {number(value.median):>9}{span}"
    if cpu is not None and workload.cpu_unit:
        line = f"{line:42}  CPU {number(cpu.median)} {workload.cpu_unit}"
    return line + (f"  peak {number(peak.median)} MB" if peak is not None else "")


def verdicts(table: Table, goals: Sequence[Goal], workloads: Mapping[str, Workload]) -> list[Verdict]:
    return [judge(table, goal, workloads) for goal in goals]


def summary(found: Sequence[Verdict]) -> str:
    measured = [one for one in found if one.met is not None]
    return f"{sum(bool(one.met) for one in measured)} of {len(measured)} measured goals are met."


def markdown(
    record: Record, scenarios: Sequence[Scenario], goals: Sequence[Goal], workloads: Mapping[str, Workload]
) -> str:
    """RESULTS.md."""
    shown = [each for each in scenarios if any(one.name in record.table for one in each.workloads)]
    parts = [INTRO, *_facts(record), "", "## Goals", "", *goal_table(record.table, goals, workloads), ""]
    for scenario in shown:
        title = (type(scenario).__doc__ or "").splitlines()[0] if type(scenario).__doc__ else ""
        parts += [f"## {scenario.name}", "", f"![{scenario.name}](charts/{scenario.name}.svg)", ""]
        parts += [*([title, ""] if title else []), *_figures(record.table, scenario.workloads), ""]
    if any(workload.name in record.table for workload in LIMIT_WORKLOADS):
        parts += ["## The machine's own", "", *_figures(record.table, LIMIT_WORKLOADS), ""]
    if record.missing:
        parts += ["", "## Not measured", "", *(f"- {what}: {why}" for what, why in record.missing.items())]
    return "\n".join([*parts, "", COMMANDS]).replace("\n\n\n", "\n\n")


def _facts(record: Record) -> list[str]:
    """Machine, versions, and which run the figures are of."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in record.machine.items())]
    lines += [f"| {name} | {value} |" for name, value in record.versions.items()]
    runs: dict[str, list[str]] = {}
    for workload, run in record.runs.items():
        runs.setdefault(run, []).append(workload)
    most = max(runs, key=lambda run: len(runs[run]), default="")
    lines += [f"| run | {most} |"] if most else []
    return [*lines, *(f"| {', '.join(names)} | {run} |" for run, names in runs.items() if run != most)]


def goal_table(table: Table, goals: Sequence[Goal], workloads: Mapping[str, Workload]) -> list[str]:
    found = verdicts(table, goals, workloads)
    lines = [summary(found), "", "| work | goal | regserver | ratio | |", "|---|---|---|---|---|"]
    for one in found:
        ours = spread(table, one.goal.workload, OURS, one.goal.kind)
        if ours is None or one.ratio is None:
            continue
        word = "**missed**" if one.met is False else one.word
        ratio = number(one.ratio) if one.goal.against else ""
        workload = workloads[one.goal.workload]
        goal = one.goal.text + ("" if one.goal.against else f" {_unit(one.goal, workload)}")
        lines.append(f"| {workload.title} | {goal} | {_value(ours, one.goal, workload)} | {ratio} | {word} |")
    missed = {one.goal.workload for one in found if one.met is False}
    notes = [f"- {workloads[name].title}: {note}" for name, note in NOTES.items() if name in missed]
    return [*lines, *(["", "What stands in the way where a goal is missed:", "", *notes] if notes else [])]


def _value(found: Spread, goal: Goal, workload: Workload) -> str:
    return f"{number(found.median)} {_unit(goal, workload)}"


def _unit(goal: Goal, workload: Workload) -> str:
    return {Kind.VALUE: workload.unit, Kind.CPU: workload.cpu_unit, Kind.PEAK: "MB"}[goal.kind]


def _figures(table: Table, workloads: Sequence[Workload]) -> list[str]:
    """Three tables at most: figures, CPU and peak memory, a column for each server."""
    parts: list[str] = []
    for kind, title in ((Kind.VALUE, ""), (Kind.CPU, "CPU of the server"), (Kind.PEAK, "peak memory, MB")):
        rows = [
            (workload, {server: found for server in ORDER if (found := spread(table, workload.name, server, kind))})
            for workload in workloads
            if kind is not Kind.CPU or workload.cpu_unit
        ]
        rows = [(workload, found) for workload, found in rows if found]
        servers = [server for server in ORDER if any(server in found for _, found in rows)]
        if rows:
            parts += ["", *_table(title, kind, rows, servers)] if parts else _table(title, kind, rows, servers)
    return parts


def _table(
    title: str, kind: Kind, rows: Sequence[tuple[Workload, Mapping[str, Spread]]], servers: Sequence[str]
) -> list[str]:
    lines = [f"| {title} | {' | '.join(servers)} |", "|---" * (len(servers) + 1) + "|"]
    for workload, found in rows:
        unit = {Kind.VALUE: workload.unit, Kind.CPU: workload.cpu_unit, Kind.PEAK: ""}[kind]
        cells = [_cell(found[server], kind) if server in found else "–" for server in servers]
        lines.append(f"| {workload.title}{f', {unit}' if unit else ''} | {' | '.join(cells)} |")
    return lines


def _cell(found: Spread, kind: Kind) -> str:
    if kind is not Kind.VALUE or found.count == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}–{number(found.high)})"


def charts(record: Record, scenarios: Sequence[Scenario]) -> dict[str, str]:
    """SVG by the scenario's name."""
    found = {}
    for scenario in scenarios:
        panels = []
        for workload in scenario.workloads:
            shown = [(server, spread(record.table, workload.name, server, Kind.VALUE)) for server in ORDER]
            known = [(server, one) for server, one in shown if one is not None]
            if known:
                direction = "less is better" if workload.less else "more is better"
                panels.append(Panel(f"{workload.title}, {direction}", workload.unit, known))
        if panels:
            found[scenario.name] = bars(scenario.name, panels)
    return found


def write_report(
    record: Record, scenarios: Sequence[Scenario], goals: Sequence[Goal], workloads: Mapping[str, Workload]
) -> None:
    """benchmarks/RESULTS.md and benchmarks/charts."""
    folder = HERE / "charts"
    folder.mkdir(exist_ok=True)
    (HERE / "RESULTS.md").write_text(markdown(record, scenarios, goals, workloads))
    for name, chart in charts(record, scenarios).items():
        (folder / f"{name}.svg").write_text(chart)
