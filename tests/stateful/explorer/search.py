"""Breadth first over all states, so that the first trace that breaks an invariant is a shortest one."""

import gc
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .accidents import Store
from .invariants import abandoned, broken_rest, broken_state, broken_step, leaves_something
from .state import Act, State, Step


class Verdict(NamedTuple):
    """What a search found."""

    broken: str  # the invariant, and how; empty if all hold
    trace: tuple[str, ...]  # the steps that lead there
    states: int
    steps: int
    acts: frozenset[Act]
    seconds: float

    @property
    def invariant(self) -> str:
        """The short name of the invariant that falls."""
        return self.broken.partition(":")[0]

    def story(self) -> str:
        """The trace, one numbered line for each step, and what it breaks."""
        lines = [f"{number:4}. {line}" for number, line in enumerate(self.trace, 1)]
        return "\n".join([*lines, f"      {self.broken or 'every invariant holds'}"])


class _Search:
    def __init__(self, store: Store) -> None:
        self.store = store
        start = store.start()
        self.came: dict[State, State | None] = {start: None}
        self.todo = deque([start])
        self.steps = 0
        self.acts: set[Act] = set()
        self.clean: set[State] = set()  # abandoned states from which the space is known to come back
        self.last: Step | None = None  # the step that breaks an invariant by itself

    def run(self, limit: int | None) -> tuple[str, State | None]:
        """The first invariant to fall, and the state where it does."""
        while self.todo and (limit is None or len(self.came) < limit):
            state = self.todo.popleft()
            if broken := self.unreclaimed(state) or broken_rest(self.store, state):
                return broken, state
            for step in self.store.steps(state):
                self.steps += 1
                self.acts.add(step.act)
                if broken := broken_step(self.store, state, step):
                    self.last = step
                    return broken, state
                if step.after not in self.came:
                    self.came[step.after] = state
                    if broken := broken_state(step.after):
                        return broken, step.after
                    self.todo.append(step.after)
        return "", None

    def unreclaimed(self, state: State) -> str:
        quiet = abandoned(state)
        if quiet in self.clean:
            return ""
        if leaves_something(self.store, quiet):
            return "I5: space does not come back"
        self.clean.add(quiet)
        return ""

    def trace(self, state: State | None) -> tuple[str, ...]:
        """The steps from the start, found again from the states they passed."""
        lines = [str(self.last)] if self.last else []
        while state is not None and (before := self.came[state]) is not None:
            lines.append(next(str(step) for step in self.store.steps(before) if step.after == state))
            state = before
        return tuple(reversed(lines))


def explore(store: Store, limit: int | None = None) -> Verdict:
    """Take every step from every state, until an invariant falls or nothing is left (or `limit` states are known)."""
    began = time.monotonic()
    search = _Search(store)
    with _no_cycles():
        broken, where = search.run(limit)
    states, seconds = len(search.came), time.monotonic() - began
    return Verdict(broken, search.trace(where), states, search.steps, frozenset(search.acts), seconds)


@contextmanager
def _no_cycles() -> Iterator[None]:
    """States make no reference cycles; looking for some among a million of them would take half the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
