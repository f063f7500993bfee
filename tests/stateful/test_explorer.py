"""Every scenario holds in every state, and every mutant is caught: the proof of `docs/gc-proof.md`, run."""

import re

import pytest

from stateful.explorer.accidents import Store
from stateful.explorer.cli import main
from stateful.explorer.invariants import BRIEFLY
from stateful.explorer.mutants import MUTANTS
from stateful.explorer.scenarios import SCENARIOS
from stateful.explorer.search import explore
from stateful.explorer.state import Act
from stateful.explorer.tables import PROOF, with_tables

LONG_FIRST = sorted(SCENARIOS, key=lambda title: -SCENARIOS[title].states)
A_LOT = 60_000  # states: more than a few seconds


def _marked(title: str) -> object:
    return pytest.param(title, marks=pytest.mark.slow if SCENARIOS[title].states > A_LOT else ())


@pytest.mark.timeout(1_200)  # half a minute for the longest, but a machine may be busy
@pytest.mark.parametrize("title", [_marked(title) for title in LONG_FIRST])
def test_every_invariant_holds_in_every_state(title: str) -> None:
    verdict = explore(Store(SCENARIOS[title]))
    assert verdict.broken == "", verdict.story()
    assert verdict.states == SCENARIOS[title].states


@pytest.mark.parametrize("title", MUTANTS)
def test_the_mutant_is_caught(title: str) -> None:
    mutant = MUTANTS[title]
    verdict = explore(mutant.build())
    print(f"{title}: {mutant.breaks}\n{verdict.story()}")
    assert verdict.invariant == mutant.falls
    assert len(verdict.trace) == mutant.length


def test_every_kind_of_step_is_taken() -> None:
    taken = frozenset[Act]().union(*(explore(Store(SCENARIOS[title]), limit=3_000).acts for title in SCENARIOS))
    assert set(Act) - taken == {Act.NOTE}  # no correct collector remembers what it saw


def test_every_mutant_falls_by_an_invariant_that_the_proof_defines() -> None:
    text = PROOF.read_text(encoding="utf-8")
    assert {mutant.falls for mutant in MUTANTS.values()} <= {*BRIEFLY}
    assert [name for name in BRIEFLY if f"**{name}**" not in text] == []


def _lemmas_named_in(folder: str) -> set[str]:
    sources = (PROOF.parents[1] / folder).rglob("*.py")
    return {lemma for source in sources for lemma in re.findall(r"\bL\d+\b", source.read_text(encoding="utf-8"))}


def test_the_proof_states_every_lemma_that_the_code_names() -> None:
    stated = set(re.findall(r"^### (L\d+)\b", PROOF.read_text(encoding="utf-8"), re.MULTILINE))
    assert _lemmas_named_in("tests/stateful") == stated
    assert _lemmas_named_in("regserver/content") | _lemmas_named_in("regserver/storage") <= stated


def test_the_tables_in_the_proof_are_what_the_explorer_runs() -> None:
    text = PROOF.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python tests/stateful/explorer_cli.py --tables"


def test_the_command_prints_the_shortest_trace_of_a_mutant(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["same repository", "upload: commit before sync"]) == 0
    printed = capfd.readouterr().out
    assert "3. client 0: finalise (a in repository 0)\n      I1: a lease is on what is not there" in printed


def test_the_command_ends_with_1_when_a_mutant_is_not_caught(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["blob without manifest", "undo does not look"]) == 1
    assert "not as it must be: undo does not look under blob without manifest" in capfd.readouterr().err
