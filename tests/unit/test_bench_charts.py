"""The benchmarks' charts: well-formed, to scale, readable on light and on dark."""

import itertools
import xml.etree.ElementTree as ET

import pytest

from benchmarks.charts import Curve, Panel, bars, curves
from benchmarks.figures import Spread

SVG = "{http://www.w3.org/2000/svg}"


def point(value: float) -> Spread:
    return Spread(value, value * 0.9, value * 1.1, 3)


def parsed(text: str) -> ET.Element:
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_figures() -> None:
    root = parsed(bars("pulls", [Panel("pull", "MB/s", [("regserver", point(100)), ("v3", point(50))])]))
    ours, theirs = (float(rect.attrib["width"]) for rect in root.findall(f"{SVG}rect") if "fill" in rect.attrib)
    assert ours == pytest.approx(2 * theirs, abs=0.2)


def test_bars_name_servers_and_say_figures_with_their_range() -> None:
    found = texts(parsed(bars("pulls", [Panel("pull", "MB/s", [("regserver", point(100))])])))
    assert "regserver" in found
    assert "100 (90.0–110)" in found


def test_names_are_escaped() -> None:
    assert "a < b & c" in texts(parsed(bars("a < b & c", [])))


@pytest.mark.parametrize("chart", [bars("t", []), curves("t", "x", "y", [])])
def test_a_chart_of_nothing_is_a_chart(chart: str) -> None:
    parsed(chart)


def test_charts_follow_the_reader_to_the_dark() -> None:
    assert "prefers-color-scheme:dark" in bars("t", [])


def test_curves_keep_within_the_paper() -> None:
    found = [Curve("regserver", [(1, point(10)), (1000, point(90_000))]), Curve("v3", [(1, point(5)), (10, point(7))])]
    root = parsed(curves("rates", "connections", "req/s", found))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in root.iter(f"{SVG}polyline"):
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_higher_figures_stand_higher() -> None:
    root = parsed(curves("rates", "connections", "req/s", [Curve("v3", [(1, point(10)), (10, point(20))])]))
    (line,) = root.iter(f"{SVG}polyline")
    first, second = (float(pair.split(",")[1]) for pair in line.attrib["points"].split())
    assert second < first


def test_names_at_the_ends_of_curves_do_not_cover_each_other() -> None:
    found = [Curve(name, [(1, point(10)), (10, point(10))]) for name in ("regserver", "v3", "olareg")]
    root = parsed(curves("rates", "connections", "req/s", found))
    places = sorted(
        float(one.attrib["y"]) for one in root.iter(f"{SVG}text") if one.text in {"regserver", "v3", "olareg"}
    )
    assert min(b - a for a, b in itertools.pairwise(places)) >= 12
