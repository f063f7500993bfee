"""What the benchmarks make of their figures."""

import pytest

from benchmarks.figures import Goal, Kind, Sample, Spread, Table, Workload, dump, fastest, judge, load, number

PULL = Workload("pull", "pull", "MB/s")
START = Workload("start", "start", "ms", less=True)
WORKLOADS = {"pull": PULL, "start": START, "limit": Workload("limit", "limit", "MB/s")}


def runs(*values: float, cpu: float | None = None) -> list[Sample]:
    return [Sample(value, cpu) for value in values]


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([30, 10, 20]) == Spread(20, 10, 30, 3)


def test_of_nothing_there_is_no_spread() -> None:
    assert Spread.of([]) is None


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.012, "0.01")]
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("ours", "met"), [(200, True), (199, False)])
def test_a_goal_is_met_from_its_factor_on(ours: float, met: bool) -> None:
    table: Table = {"pull": {"regserver": runs(ours), "v3": runs(100)}}
    verdict = judge(table, Goal("pull", 2, "v3"), WORKLOADS)
    assert (verdict.ratio, verdict.met) == (ours / 100, met)


@pytest.mark.parametrize(("ours", "met"), [(70, True), (71, False)])
def test_a_goal_may_be_a_most(ours: float, met: bool) -> None:
    table: Table = {"pull": {"regserver": runs(1, cpu=ours), "v3": runs(1, cpu=100)}}
    assert judge(table, Goal("pull", 0.7, "v3", Kind.CPU, at_most=True), WORKLOADS).met is met


def test_medians_are_compared_and_not_the_best_runs() -> None:
    table: Table = {"pull": {"regserver": runs(90, 500, 90), "v3": runs(100, 100, 1)}}
    assert judge(table, Goal("pull", 1, "v3"), WORKLOADS).ratio == 0.9


def test_a_goal_without_an_opponent_is_a_bare_figure() -> None:
    assert judge({"start": {"regserver": runs(250)}}, Goal("start", 300, "", at_most=True), WORKLOADS).met is True


def test_a_goal_may_speak_of_another_workload() -> None:
    table: Table = {"pull": {"regserver": runs(70)}, "limit": {"limit": runs(100)}}
    assert judge(table, Goal("pull", 0.7, "limit", other="limit"), WORKLOADS).met is True


@pytest.mark.parametrize("table", [{}, {"pull": {"regserver": runs(1)}}, {"pull": {"v3": runs(1)}}])
def test_what_was_not_measured_is_neither_met_nor_missed(table: Table) -> None:
    verdict = judge(table, Goal("pull", 1, "v3"), WORKLOADS)
    assert (verdict.ratio, verdict.met, verdict.word) == (None, None, "not measured")


def test_the_fastest_is_another_registry_and_no_limit() -> None:
    table: Table = {"pull": {"regserver": runs(9), "v3": runs(5), "olareg": runs(7), "nginx": runs(99)}}
    assert fastest(table, PULL) == "olareg"


def test_where_less_is_better_the_fastest_has_the_least() -> None:
    assert fastest({"start": {"v3": runs(5), "olareg": runs(7)}}, START) == "v3"


def test_what_is_dumped_is_loaded_again() -> None:
    table: Table = {"pull": {"regserver": [Sample(1.5, 2.5, 3.5), Sample(2.0)]}}
    assert load(dump(table)) == table


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal("pull", 2.5, "v3"), "≥ 2.5 × v3"),
        (Goal("pull", 0.7, "v3", Kind.CPU, at_most=True), "CPU ≤ 0.7 × v3"),
        (Goal("pull", 160, "", Kind.PEAK, at_most=True), "peak RSS ≤ 160"),
        (Goal("pull", 0.7, "limit", other="sha256"), "≥ 0.7 × limit (sha256)"),
    ],
)
def test_a_goal_reads_as_it_is_meant(goal: Goal, text: str) -> None:
    assert goal.text == text
