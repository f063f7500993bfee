"""Charts as SVG: bars with their ranges, and curves. They read well on light and on dark ground. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.figures import Spread, number

WIDTH = 760
LABEL, VALUE = 92, 190  # columns for names on the left and figures on the right
BAR, GAP, TITLE, PAD = 16, 5, 26, 14
PLOT_HEIGHT, LEFT, BOTTOM, TOP = 260, 76, 46, 34
# Colours that differ in light and in hue; told apart by names beside the bars and at the curves' ends all the same.
COLOURS: Mapping[str, str] = {
    "regserver": "#d9480f",
    "2.8.2": "#4c6ef5",
    "v3": "#1098ad",
    "olareg": "#2b8a3e",
    "zot": "#9c36b5",
}
OTHER = "#868e96"
# One server on several ways has one colour and several strokes.
DASHES: Mapping[str, str] = {
    "TLS": ' stroke-dasharray="2 3"',
    "nginx": ' stroke-dasharray="8 4"',
    "nginx TLS": ' stroke-dasharray="8 3 2 3"',
}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#212529}.t{font-weight:600;font-size:13px}.v,.s{fill:#495057}"
    ".s{font-size:11px}.g{stroke:#ced4da;stroke-width:1}.r{stroke:#212529;stroke-width:1.5}.bg{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#e9ecef}.v,.s{fill:#adb5bd}.g{stroke:#495057}.r{stroke:#f1f3f5}"
    ".bg{fill:#16191d}}"
)


@dataclasses.dataclass(frozen=True)
class Panel:
    """Bars of one workload, by server, in this order."""

    title: str
    unit: str
    bars: Sequence[tuple[str, Spread]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """``points``: x, and the spread of what was measured there."""

    name: str
    points: Sequence[tuple[float, Spread]]


def colour(name: str) -> str:
    return COLOURS.get(name, OTHER)


def bars(title: str, panels: Sequence[Panel]) -> str:
    """Each panel has a scale of its own, from nothing to its largest figure."""
    parts, y = [_text(PAD, 22, title, "t")], TITLE + PAD
    for panel in panels:
        parts.append(_text(PAD, y + 14, f"{panel.title} ({panel.unit})", "s"))
        y += 22
        top = max((spread.high for _, spread in panel.bars), default=1.0) or 1.0
        for name, spread in panel.bars:
            parts += _bar(y, name, spread, (WIDTH - LABEL - VALUE - PAD) / top)
            y += BAR + GAP
        y += PAD
    return _svg(title, y, parts)


def _bar(y: float, name: str, spread: Spread, scale: float) -> list[str]:
    middle = y + BAR / 2
    span = f" ({number(spread.low)}–{number(spread.high)})" if spread.count > 1 else ""
    parts = [
        f'<text x="{LABEL - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LABEL}" y="{y:.1f}" width="{max(1.0, spread.median * scale):.1f}" height="{BAR}" rx="2" '
        f'fill="{colour(name)}"/>',
        _text(WIDTH - VALUE + 8, middle + 4, number(spread.median) + span, "v"),
    ]
    if spread.high > spread.low:
        parts.append(_line(LABEL + spread.low * scale, middle, LABEL + spread.high * scale, middle, "r"))
    return parts


def curves(title: str, x_title: str, unit: str, found: Sequence[Curve]) -> str:
    """x by powers of ten; y from nothing, or by powers of ten where the figures span more than two of them."""
    known = [curve for curve in found if curve.points]
    xs = sorted({x for curve in known for x, _ in curve.points}) or [1.0]
    ys = [spread.median for curve in known for _, spread in curve.points if spread.median > 0] or [1.0]
    place_x, place_y, ticks = _axes(xs, ys)
    parts = [_text(PAD, 22, title, "t"), _text(PAD, TOP + 14, unit, "s")]
    for tick in ticks:
        parts.append(_line(LEFT, place_y(tick), WIDTH - VALUE + 60, place_y(tick), "g"))
        parts.append(
            f'<text class="s" x="{LEFT - 6}" y="{place_y(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    bottom = TOP + 20 + PLOT_HEIGHT
    parts += [
        f'<text class="s" x="{place_x(x):.1f}" y="{bottom + 16}" text-anchor="middle">{_short(x)}</text>' for x in xs
    ]
    parts.append(f'<text class="s" x="{(LEFT + WIDTH - VALUE) / 2:.1f}" y="{bottom + 34}">{escape(x_title)}</text>')
    ends: list[float] = []
    shades = {curve.name: _shade(curve.name, place) for place, curve in enumerate(known)}
    for curve in sorted(known, key=lambda one: place_y(one.points[-1][1].median)):
        parts += _curve(curve, shades[curve.name], place_x, place_y, ends)
    return _svg(title, bottom + BOTTOM, parts)


def _shade(name: str, place: int) -> str:
    """A server's own colour, also on each way to it; one from the list for a curve that names none."""
    server = name.partition(",")[0]
    return COLOURS[server] if server in COLOURS else list(COLOURS.values())[place % len(COLOURS)]


def _curve(curve: Curve, shade: str, place_x: Place, place_y: Place, ends: list[float]) -> list[str]:
    """A line with its points and ranges; its name at its end, moved down where another name stands already."""
    dash = DASHES.get(curve.name.partition(", ")[2], "")
    points = [(place_x(x), spread) for x, spread in curve.points]
    path = " ".join(f"{x:.1f},{place_y(spread.median):.1f}" for x, spread in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{shade}" stroke-width="2"{dash}/>']
    for x, spread in points:
        parts.append(f'<circle cx="{x:.1f}" cy="{place_y(spread.median):.1f}" r="3" fill="{shade}"/>')
        if spread.high > spread.low > 0:
            low, high = place_y(spread.low), place_y(spread.high)
            parts.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{shade}"/>')
    y = max([place_y(points[-1][1].median) + 4, *(end + 14 for end in ends)])
    ends.append(y)
    return [*parts, f'<text class="s" x="{WIDTH - VALUE + 66}" y="{y:.1f}">{escape(curve.name)}</text>']


class Place:
    """Where a value stands on the paper: between ``start`` and ``end``, linear or by its logarithm."""

    def __init__(self, low: float, high: float, start: float, end: float, by_power: bool) -> None:
        self._by_power = by_power
        self._low, self._span = self._of(low), (self._of(high) - self._of(low)) or 1.0
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + (self._of(value) - self._low) / self._span * self._length

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._by_power else value


def _axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[Place, Place, list[float]]:
    by_power = max(ys) / min(ys) > 100
    top, bottom = TOP + 20, TOP + 20 + PLOT_HEIGHT
    if by_power:
        low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
        ticks = [10.0**power for power in range(low, high + 1)]
    else:
        step = 10.0 ** math.floor(math.log10(max(ys)))
        step = step if max(ys) / step >= 4 else step / 2 if max(ys) / step >= 2 else step / 4
        ticks = [step * count for count in range(math.ceil(max(ys) / step) + 1)]
    place_y = Place(ticks[0], ticks[-1], bottom, top, by_power)
    return Place(xs[0], xs[-1], LEFT + 10, WIDTH - VALUE + 50, xs[0] > 0), place_y, ticks


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    ground = f'<rect class="bg" width="{WIDTH}" height="{height:.0f}" rx="6"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", ground, *parts, "</svg>", ""])
