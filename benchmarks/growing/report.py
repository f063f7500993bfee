"""GROWTH.md: a chart and a table for each figure, and what is to be said where it bends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.charts import Curve, Panel, bars, curves
from benchmarks.figures import Spread, number

HERE = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Chart:
    """``x``: what grows, or "" for bars. ``why``: why it bends where it does, as measured."""

    name: str
    title: str
    x: str
    unit: str
    why: str = ""


RATE = """\
With one connection the figure is a round trip between two processes that wait for each other. With ten there is always
a request to be answered, and the rate is what one process gives; more connections add nothing to it."""
QUEUE = """\
Beyond that point requests wait for each other: the time of one is the number of connections by the rate."""
COPIES = """\
Straight, the kernel moves a blob from the file to the socket. Over TLS each byte is read, encrypted and written by the
process, and decrypted by curl on the other core; nginx copies it once more."""

COUNTS = """\
`GET /v1/registries` counts the images of each registry it shows, entry by entry of an index: it bends where one
registry has tens of thousands of them. A page of tags is a range of an index, and costs the same at any size."""

CHARTS: Sequence[Chart] = (
    Chart("repositories-reads", "Reads, by repositories", "repositories", "req/s"),
    Chart("repositories-cpu", "Processor of the server for one read, by repositories", "repositories", "µs"),
    Chart("repositories-pushes", "Manifests pushed, by repositories", "repositories", "per second"),
    Chart("repositories-lists", "Lists, by repositories", "repositories", "ms", COUNTS),
    Chart("repositories-start", "Restart, by repositories", "repositories", "ms"),
    Chart("repositories-memory", "Memory after a restart, by repositories", "repositories", "MB"),
    Chart("tags-reads", "Reads, by tags of the repository", "tags", "req/s"),
    Chart("tags-cpu", "Processor of the server for one read, by tags of the repository", "tags", "µs"),
    Chart("tags-pushes", "Manifests pushed, by tags of the repository", "tags", "per second"),
    Chart("tags-lists", "Lists, by tags of the repository", "tags", "ms"),
    Chart("tags-start", "Restart, by tags", "tags", "ms"),
    Chart("tags-memory", "Memory after a restart, by tags", "tags", "MB"),
    Chart("connections-again", "GET manifest by tag, asked again, by connections", "connections", "req/s", RATE),
    Chart("connections-again-p99", "The same: 99 of 100 took at most", "connections", "ms", QUEUE),
    Chart("connections-first", "GET manifest by tag, first time, by connections", "connections", "req/s"),
    Chart("connections-first-p99", "The same: 99 of 100 took at most", "connections", "ms"),
    Chart("bulk-push", "Push of 1 GiB by curl: straight, TLS, nginx", "", "MB/s"),
    Chart("bulk-pull", "Pull of 1 GiB by curl: straight, TLS, nginx", "", "MB/s", COPIES),
)


@dataclasses.dataclass
class Found:
    """Figures by chart, curve and x."""

    figures: dict[str, dict[str, dict[float, list[float]]]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add(self, chart: str, curve: str, x: float, figure: float) -> None:
        self.figures.setdefault(chart, {}).setdefault(curve, {}).setdefault(x, []).append(figure)

    def curves(self, chart: str) -> list[Curve]:
        known = self.figures.get(chart, {})
        return [Curve(name, list(_points(points))) for name, points in known.items()]


def _points(points: Mapping[float, list[float]]) -> Iterator[tuple[float, Spread]]:
    for x, values in sorted(points.items()):
        spread = Spread.of(values)
        if spread is not None:
            yield x, spread


def svg(chart: Chart, found: Found) -> str:
    known = found.curves(chart.name)
    if chart.x:
        return curves(chart.title, chart.x, chart.unit, known)
    shown = [(curve.name.removeprefix("regserver, "), curve.points[0][1]) for curve in known]
    return bars(chart.title, [Panel("more is better", chart.unit, shown)])


def table(chart: Chart, found: Found) -> list[str]:
    known = found.curves(chart.name)
    xs = sorted({x for curve in known for x, _ in curve.points})
    heads = [f"{x:,.0f}" for x in xs] if chart.x else [chart.unit]
    lines = [f"| {chart.x and f'{chart.unit} at … {chart.x}'} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for curve in known:
        by_x = dict(curve.points)
        cells = [_cell(by_x[x]) if x in by_x else "–" for x in xs]
        lines.append(f"| {curve.name} | {' | '.join(cells)} |")
    return lines


def _cell(found: Spread) -> str:
    return (
        number(found.median)
        if found.count == 1
        else f"{number(found.median)} ({number(found.low)}–{number(found.high)})"
    )


def text(found: Found) -> str:
    lines: list[str] = []
    for chart in CHARTS:
        if chart.name in found.figures:
            lines += ["", chart.title, *table(chart, found)]
    lines += ["", *(f"{part}: not measured: {why}" for part, why in found.missing.items())]
    return "\n".join([*lines, f"{found.seconds:.0f} s"])


def markdown(found: Found, machine: Mapping[str, str], run: str) -> str:
    lines = [
        "# How cost grows",
        "",
        f"Made by `make bench-growth`: {run}; {', '.join(machine.values())}.",
        "",
        "Medians with their range. Repositories and tags are rows copied into the catalog, each repository an image of",
        "two blobs. 64 connections ask and 16 push where connections are not what grows. Peers have no credentials.",
        "",
    ]
    for chart in CHARTS:
        if chart.name in found.figures:
            lines += [f"## {chart.title}", "", f"![{chart.title}](charts/growth-{chart.name}.svg)", ""]
            lines += [*table(chart, found), "", *([chart.why, ""] if chart.why else [])]
    lines += [f"- not measured: {part}: {why}" for part, why in found.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def write(found: Found, machine: Mapping[str, str], run: str) -> None:
    """benchmarks/GROWTH.md and its charts."""
    folder = HERE / "charts"
    folder.mkdir(exist_ok=True)
    for chart in CHARTS:
        if chart.name in found.figures:
            (folder / f"growth-{chart.name}.svg").write_text(svg(chart, found))
    (HERE / "GROWTH.md").write_text(markdown(found, machine, run))
