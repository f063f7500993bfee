"""The process ends at every single call that changes the disk, one call per run, and a new process goes on.

A dry run under strace lists the calls of an act; each is then the last that a run of its own gets to, and does not get
done. After it: I1 to I6 on the disk; what was answered is there, and what was not is there as a whole or not at all;
nothing is left over; and the act, begun again, comes to its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from support import crash_scripts as scripts
from support.crash_scripts import Script, Town
from support.facts import Broken, Client
from support.invariants import assert_whole, violations
from support.stage import Act, GoOn, Stage, Watch, crash_everywhere, dry_run
from support.strace import Call, attached
from support.zygote import SETTLED

# Most calls write a page of one COMMIT's log. Unless all are asked for, one in so many of these is a point.
STRIDE = 1 if os.environ.get("CRASH_POINTS") == "all" else 5
PAGES = "pwrite64"
PATIENCE_SECONDS = 20.0
SLOW_UNLINK = "inject=unlink:delay_enter=60s"
UNDONE = ("trash", "still runs", "still being deleted")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def chosen(points: list[Call]) -> list[Call]:
    return [point for point in points if point.name != PAGES or point.number % STRIDE == 0]


# ---- what clients ask for


def acting(script: Script) -> Act:
    """The watch begins when the server has settled."""

    def act(stage: Stage, root: Path, town: Town, watch: Watch) -> None:
        with stage.served(root) as (child, client), watch(child), child.dying_on(Broken):
            script(client, town)

    return act


def again(script: Script) -> GoOn:
    return lambda stage, root, town, client: script(client, town)


SCRIPTS = (
    scripts.push,
    scripts.mount,
    scripts.delete,
    scripts.collect,
    scripts.rotate,
    scripts.resume,
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_crash_at_any_call_costs_nothing_that_was_answered(stage: Stage, script: Script, tmp_path: Path) -> None:
    act = acting(script)
    points = chosen(dry_run(stage, act, tmp_path))
    print(f"{script.__name__}: {len(points)} points")
    crash_everywhere(stage, act, again(script), points, tmp_path, steady=script is not scripts.collect)


# ---- what the server does by itself: the watch begins with the process


def start(stage: Stage, root: Path, _: Town, watch: Watch) -> None:
    """Starts and does what it does then, to the end of every job."""
    with stage.zygote.serve(root, held=True) as child, watch(child):
        child.send(signal.SIGCONT)
        with contextlib.suppress(RuntimeError):  # it ended first
            child.wait_for(SETTLED)
        until = time.monotonic() + PATIENCE_SECONDS
        while child.alive and violations(root, settled=True):
            assert time.monotonic() < until, violations(root, settled=True)
            time.sleep(0.01)


def leave_much_to_do(stage: Stage, folder: Path) -> Stage:
    """The same with a collection begun, trash to take out, a registry to purge and a file that no table names."""
    root, town = stage.copied(folder / "undone")
    with stage.served(root) as (child, client):
        with attached(child, folder / "trace", SLOW_UNLINK):
            scripts.close_registry(client, town)
            client.send("POST", f"/v1/registries/{town.registry}/gc", 200)
            until = time.monotonic() + PATIENCE_SECONDS
            while not all(any(word in line for line in violations(root, settled=True)) for word in UNDONE):
                assert time.monotonic() < until, violations(root, settled=True)
            child.send(signal.SIGKILL)
        child.wait()
    (root / "uploads" / ("0" * 32)).touch()
    assert_whole(root, settled=False)
    town.facts.allowed.update({path: {None} for path in scripts.COLLECTED})
    return Stage(stage.zygote, root, town)


def test_a_crash_while_a_start_goes_on_with_what_a_crash_has_left(stage: Stage, tmp_path: Path) -> None:
    undone = leave_much_to_do(stage, tmp_path)
    points = chosen(dry_run(undone, start, tmp_path, alone=False))
    print(f"start: {len(points)} points")
    crash_everywhere(undone, start, again(scripts.collect), points, tmp_path, steady=False)


# ---- the end of a server, a rotation of the signing keys, the first start


def stop(stage: Stage, root: Path, town: Town, watch: Watch) -> None:
    """Ends in order, with a log to fold into the catalog."""
    with stage.served(root) as (child, client):
        scripts.mount(client, town)
        with watch(child):
            child.send(signal.SIGTERM)
            child.wait()


def test_a_crash_while_a_server_ends_costs_nothing(stage: Stage, tmp_path: Path) -> None:
    points = chosen(dry_run(stage, stop, tmp_path, alone=False))
    print(f"stop: {len(points)} points")
    crash_everywhere(stage, stop, again(scripts.mount), points, tmp_path)


def rotate_keys(stage: Stage, root: Path, _: Town, watch: Watch) -> None:
    with stage.zygote.run("keys", "rotate", "--root", str(root), held=True) as child, watch(child):
        child.send(signal.SIGCONT)
        child.wait()


def rotate_keys_again(stage: Stage, root: Path, town: Town, client: Client) -> None:
    with stage.zygote.run("keys", "rotate", "--root", str(root)) as child:
        child.wait_for("signs from now on")
        child.wait()
    scripts.rotate(client, town)


def test_a_crash_while_the_signing_key_is_rotated_leaves_one_that_signs(stage: Stage, tmp_path: Path) -> None:
    points = chosen(dry_run(stage, rotate_keys, tmp_path, alone=False))
    print(f"rotate_keys: {len(points)} points")
    crash_everywhere(stage, rotate_keys, rotate_keys_again, points, tmp_path)


def test_a_crash_in_the_first_start_is_made_good_by_the_second(stage: Stage, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    fresh = Stage(stage.zygote, empty, Town())
    points = dry_run(fresh, start, tmp_path, alone=False)[::STRIDE]
    print(f"first start: {len(points)} points")
    crash_everywhere(fresh, start, build, points, tmp_path, steady=False)


def build(stage: Stage, root: Path, town: Town, client: Client) -> None:
    scripts.build(client)
