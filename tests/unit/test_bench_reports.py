"""RESULTS.md, results.json, the guard, and what the benchmarks' plans choose."""

from pathlib import Path

import pytest

from benchmarks import guard, store
from benchmarks.clients import ONCE, head, parse_wrk
from benchmarks.figures import Goal, Sample, Table, Workload
from benchmarks.growing.report import CHARTS, Found, svg
from benchmarks.growing.report import markdown as growth_markdown
from benchmarks.processes import NotMeasured
from benchmarks.report import charts, goal_table, markdown, text_report
from benchmarks.run import Plan
from benchmarks.scenarios.table import GOALS, SCENARIOS, WORKLOADS
from benchmarks.store import Record

TABLE: Table = {
    "push-put": {
        "regserver": [Sample(900, 1.5, 80), Sample(1000, 1.6, 81), Sample(1100, 1.7, 82)],
        "v3": [Sample(500, 2.0, 50)],
    },
    "start": {"regserver": [Sample(250)], "v3": [Sample(30)]},
}


def test_every_goal_is_about_something_that_is_measured() -> None:
    assert {goal.workload for goal in GOALS} <= set(WORKLOADS)
    assert {goal.other for goal in GOALS if goal.other} <= set(WORKLOADS)


def test_no_two_workloads_share_a_name() -> None:
    names = [workload.name for scenario in SCENARIOS for workload in scenario.workloads]
    assert len(names) == len(set(names))


def test_results_say_goal_figure_ratio_and_verdict() -> None:
    lines = goal_table(TABLE, GOALS, WORKLOADS)
    assert "| push 1 GiB, one PUT | ≥ 2.5 × v3 | 1,000 MB/s | 2.00 | **missed** |" in lines
    assert "| start to the first answer, empty folder | ≤ 300 ms | 250 ms |  | met |" in lines


def test_results_say_nothing_of_goals_without_figures() -> None:
    assert not any("olareg" in line for line in goal_table(TABLE, GOALS, WORKLOADS))


def test_results_name_machine_versions_run_and_what_is_missing() -> None:
    record = Record(
        TABLE, {"push-put": "run A", "start": "run B"}, {"zot": "not installed"}, {"memory": "24 GiB"}, {"v3": "3.1.2"}
    )
    text = markdown(record, SCENARIOS, GOALS, WORKLOADS)
    for expected in ("| memory | 24 GiB |", "| v3 | 3.1.2 |", "| run | run A |", "| start | run B |"):
        assert expected in text
    assert "- zot: not installed" in text
    assert "1,000 (900–1,100)" in text


def test_a_chart_is_made_for_each_scenario_that_has_figures() -> None:
    assert set(charts(Record(TABLE), SCENARIOS)) == {"push-put", "start"}


def test_the_terminal_gets_figures_and_verdicts() -> None:
    text = text_report(Record(TABLE), GOALS, WORKLOADS)
    assert "push-put: push 1 GiB, one PUT (MB/s)" in text
    assert "≥ 2.5 × v3: 2.00, missed" in text


def test_results_are_kept_and_renewed_by_workload(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    store.write(Record(TABLE, {"push-put": "old", "start": "old"}, {"v3, tags": "why"}), file)
    new = Record({"start": {"regserver": [Sample(1)]}}, {"start": "new"}, {"v3, image": "why not"})
    found = store.read(file).renewed(new)
    assert found.table == {"push-put": TABLE["push-put"], "start": {"regserver": [Sample(1)]}}
    assert found.runs == {"push-put": "old", "start": "new"}
    assert found.missing == {"v3, tags": "why", "v3, image": "why not"}


def test_without_results_there_is_an_empty_record(tmp_path: Path) -> None:
    assert store.read(tmp_path / "none.json") == Record()


def rates(ours: float, theirs: float) -> Table:
    return {"pull": {"regserver": [Sample(ours)], "v3": [Sample(theirs)]}}


RATE = {"pull": Workload("pull", "pull", "MB/s")}
TIME = {"pull": Workload("pull", "pull", "ms", less=True)}


@pytest.mark.parametrize(("now", "worse"), [(71, False), (69, True), (300, False)])
def test_the_guard_allows_for_noise_and_no_more(now: float, worse: bool) -> None:
    (change,) = guard.compare(rates(100, 100), rates(now, 100), "v3", RATE)
    assert change.is_worse(0.3) is worse


def test_the_guard_does_not_mind_a_machine_that_is_slow_for_both() -> None:
    (change,) = guard.compare(rates(100, 50), rates(10, 5), "v3", RATE)
    assert (change.before, change.now) == (2, 2)


def test_the_guard_turns_round_where_less_is_better() -> None:
    (change,) = guard.compare(rates(10, 20), rates(20, 20), "v3", TIME)
    assert (change.before, change.now, change.is_worse(0.3)) == (2, 1, True)


def test_the_guard_compares_only_what_both_runs_have() -> None:
    assert guard.compare({}, rates(1, 1), "v3", RATE) == []
    assert guard.compare(rates(1, 1), rates(1, 1), "olareg", RATE) == []


def test_a_plan_chooses_scenarios_by_their_name_or_by_a_workload() -> None:
    plan = Plan([], SCENARIOS, 1, 1, 1, frozenset({"get-tag", "durable"}))
    chosen = {scenario.name: scenario for scenario in plan.chosen()}
    assert set(chosen) == {"again", "durable"}
    assert plan.wants(chosen["again"], "get-tag")
    assert not plan.wants(chosen["again"], "head-tag")
    assert plan.wants(chosen["durable"], "blobs")


def test_a_plan_without_names_chooses_everything() -> None:
    assert Plan([], SCENARIOS, 1, 1, 1).chosen() == list(SCENARIOS)


WRK = """\
  2 threads and 64 connections
  Latency Distribution
     50%  512.00us
     99%    1.50s 
  1000 requests in 1.00s, 1.00MB read
Requests/sec:   1000.50
"""


def test_what_wrk_says_is_read() -> None:
    rate = parse_wrk(WRK)
    assert (rate.per_second, rate.p50, rate.p99) == (1000.5, 0.512, 1500)


@pytest.mark.parametrize(
    "text", [WRK + "Non-2xx or 3xx responses: 3", "unable to connect", WRK.replace("1000.50", "0.00")]
)
def test_refused_requests_are_no_figure(text: str) -> None:
    with pytest.raises(NotMeasured):
        parse_wrk(text)


def test_a_head_ends_with_an_empty_line_and_holds_its_credential() -> None:
    request = head("HEAD", "/v2/", "127.0.0.1:5000", "Authorization: Bearer x", f"bench/{ONCE}")
    assert request.startswith(b"HEAD /v2/ HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n")
    assert request.endswith(b"\r\nAuthorization: Bearer x\r\n\r\n")
    assert request.count(b"@") == 16


def test_growth_is_reported_with_a_table_and_a_chart_for_each_figure() -> None:
    found = Found(missing={"tags": "no room"})
    for x, figure in ((10, 5.0), (10, 7.0), (1000, 9.0)):
        found.add("repositories-start", "start, ms", x, figure)
    found.add("bulk-pull", "regserver, TLS", 1, 500.0)
    text = growth_markdown(found, {"memory": "24 GiB"}, "commit abc")
    assert "| start, ms | 6.00 (5.00–7.00) | 9.00 |" in text
    assert "- not measured: tags: no room" in text
    by_name = {chart.name: chart for chart in CHARTS}
    assert "polyline" in svg(by_name["repositories-start"], found)
    assert "polyline" not in svg(by_name["bulk-pull"], found)


def test_a_goal_of_regserver_against_itself_names_the_other_workload() -> None:
    goal = next(goal for goal in GOALS if goal.against == "regserver")
    assert isinstance(goal, Goal)
    assert goal.other not in {"", goal.workload}
