"""The tables of `docs/gc-proof.md`, written from what the explorer runs, so that they cannot drift from it."""

from pathlib import Path

from .mutants import MUTANTS
from .scenarios import SCENARIOS

PROOF = Path(__file__).parents[3] / "docs" / "gc-proof.md"


def scenario_table() -> str:
    """Who does what, and how many states that has."""
    lines = ["| scenario | who does what | states |", "|---|---|---:|"]
    lines += [f"| {title} | {scenario.about} | {scenario.states:,} |" for title, scenario in SCENARIOS.items()]
    return "\n".join(lines)


def mutant_table() -> str:
    """Each mistake, what it breaks, and how it is found; by lemma."""
    lines = ["| lemma | mistake | what comes of it | caught by | falls | steps |", "|---|---|---|---|---|---:|"]
    for title, mutant in sorted(MUTANTS.items(), key=lambda item: (int(item[1].lemma[1:]), item[0])):
        row = mutant.lemma, title, mutant.breaks, mutant.scenario, mutant.falls, mutant.length
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


TABLES = {"scenarios": scenario_table, "mutants": mutant_table}


def with_tables(text: str) -> str:
    """The text with every table between its two markers written anew.

    Raises:
        ValueError: a marker is missing.
    """
    for title, table in TABLES.items():
        begin, end = f"<!-- {title}: begin -->", f"<!-- {title}: end -->"
        before, rest = _cut(text, begin)
        _, after = _cut(rest, end)
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


def _cut(text: str, marker: str) -> tuple[str, str]:
    before, found, after = text.partition(marker)
    if not found:
        raise ValueError(f"the marker {marker} is missing")
    return before, after
