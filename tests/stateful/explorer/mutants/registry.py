"""Where mutants are entered, each with what is expected of its discovery."""

from collections.abc import Callable
from typing import NamedTuple

from ..accidents import Store
from ..scenarios import SCENARIOS


class Mutant(NamedTuple):
    """A store with one mistake."""

    store: type[Store]
    lemma: str  # the one it offends against
    scenario: str  # the one that must catch it
    falls: str  # the invariant that breaks there first
    length: int  # of a shortest trace to it, in steps

    @property
    def breaks(self) -> str:
        """What comes of the mistake, in one sentence."""
        return " ".join((self.store.__doc__ or "").split())

    def build(self, scenario: str = "") -> Store:
        """The store under the scenario that must catch it, or under another one."""
        return self.store(SCENARIOS[scenario or self.scenario])


MUTANTS: dict[str, Mutant] = {}


def mutant(title: str, lemma: str, scenario: str, falls: str, length: int) -> Callable[[type[Store]], type[Store]]:
    """Enter the class below under a title."""

    def enter(store: type[Store]) -> type[Store]:
        MUTANTS[title] = Mutant(store, lemma, scenario, falls, length)
        return store

    return enter
