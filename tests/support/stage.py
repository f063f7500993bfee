"""A small registry on which acts are played: once to see their calls, then once for each call, to end there."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from support import crash_scripts as scripts
from support.crash_scripts import Town
from support.facts import Client
from support.invariants import assert_whole, wait_until_settled
from support.strace import Call, attached, calls, was_reached
from support.zygote import SETTLED, Child, Zygote, zygote

Watch = Callable[[Child], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Stage:
    """``root`` holds the registry as every act finds it, ``town`` what is in it."""

    zygote: Zygote
    root: Path
    town: Town

    def copied(self, folder: Path) -> tuple[Path, Town]:
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.root, folder)), self.town.copy()

    @contextlib.contextmanager
    def served(self, root: Path, **more: float) -> Iterator[tuple[Child, Client]]:
        """A server that has settled."""
        with self.zygote.serve(root, **more) as child:
            child.wait_for(SETTLED)
            with contextlib.closing(administrator(child, root)) as client:
                yield child, client


def administrator(child: Child, root: Path) -> Client:
    return Client(child.url(), "admin", (root / "admin-token").read_text().strip())


Act = Callable[[Stage, Path, Town, Watch], None]
"""Does something to a registry, with the watch around it: to its end, or to that of the process."""
GoOn = Callable[[Stage, Path, Town, Client], None]
"""The same beside a new server, to its end."""


@contextlib.contextmanager
def opened_stage(folder: Path) -> Iterator[Stage]:
    root = folder / "root"
    with zygote(folder) as parent:
        with parent.serve(root) as child:
            child.wait_for(SETTLED)
            with contextlib.closing(administrator(child, root)) as client:
                town = scripts.build(client)
            child.send(signal.SIGTERM)
            child.wait()
        yield Stage(parent, root, town)


def dry_run(stage: Stage, act: Act, folder: Path, *, alone: bool = True) -> list[Call]:
    """The calls of an act that nothing disturbs."""
    root, town = stage.copied(folder / "root")
    trace = folder / "trace"
    act(stage, root, town, lambda child: attached(child, trace))
    return calls(trace, alone=alone)


def crash_at(stage: Stage, act: Act, go_on: GoOn, point: Call, folder: Path) -> bool:
    """One run: to the point, and on from there. False if it came to its end without the point."""
    root, town = stage.copied(folder / "root")
    trace = folder / "trace"
    act(stage, root, town, lambda child: attached(child, trace, point.kill))
    if (root / "catalog.sqlite3").exists():
        assert_whole(root, settled=False)
    with stage.served(root) as (child, client):
        town.facts.check(client)
        wait_until_settled(root)
        if town.registry:
            scripts.check_login(client, town, child.url())
        go_on(stage, root, town, client)
        town.facts.check(client)
    assert_whole(root, settled=False)
    return was_reached(trace)


def crash_everywhere(
    stage: Stage, act: Act, go_on: GoOn, points: list[Call], folder: Path, *, steady: bool = True
) -> None:
    """AssertionError that names the first point after which something is wrong.

    Not ``steady``: what goes on beside each other shares more or fewer COMMITs, so that a run may end before a point.
    """
    missed = []
    for point in points:
        try:
            if not crash_at(stage, act, go_on, point, folder):
                missed.append(point)
        except AssertionError as violation:
            raise AssertionError(f"killed at {point}: {point.shown}") from violation
    varying = [point for point in missed if point.name == "write"]  # lines of the log: how often a job is asked
    assert missed == varying or (not steady and len(missed) < len(points) / 4), f"never reached: {missed}"
