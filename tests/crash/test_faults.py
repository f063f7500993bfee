"""The disk fails or is full, the catalog is busy or damaged: no false 201, pulls go on, and how to go on is said."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from support import crash_scripts as scripts
from support.crash_scripts import Script, Town
from support.facts import Client, Refused
from support.invariants import CATALOG, assert_whole, stored, wait_until_settled
from support.ledger import digest_of
from support.smalldisk import Ballast, small_disk
from support.stage import Act, Stage, Watch, administrator, dry_run
from support.strace import attached
from support.zygote import SETTLED

EVERY = os.environ.get("CRASH_POINTS") == "all"
STRIDE = 1 if EVERY else 7
ERRORS = ["EIO", "ENOSPC"] if EVERY else ["EIO"]
LOG_LINES, PAGES = "write", "pwrite64"
PAGE_BYTES = 4096
SCRIPTS = (scripts.push, scripts.collect)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


# ---- a call fails


def suffering(script: Script, *injections: str, times: int = 1) -> Act:
    """Does it while the disk fails, and then pulls what is there."""

    def act(stage: Stage, root: Path, town: Town, watch: Watch) -> None:
        with stage.served(root) as (child, client):
            client.patient = True
            with attached(child, root.parent / "trace", *injections):
                for _ in range(times):
                    with contextlib.suppress(Refused):
                        script(client, town)
            town.facts.check(client)

    return act


def recover(stage: Stage, script: Script, root: Path, town: Town) -> None:
    assert_whole(root, settled=False)
    with stage.served(root) as (_, client):
        town.facts.check(client)
        wait_until_settled(root)
        script(client, town)
        town.facts.check(client)
    assert_whole(root, settled=False)


def nothing_watches(_: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_any_call_may_fail_and_nothing_that_was_answered_is_lost(
    stage: Stage, tmp_path: Path, script: Script, error: str
) -> None:
    def act(stage: Stage, root: Path, town: Town, watch: Watch) -> None:
        with stage.served(root) as (child, client), watch(child):
            script(client, town)

    points = [point for point in dry_run(stage, act, tmp_path) if point.name != LOG_LINES]
    points = [point for point in points if point.name != PAGES or point.number % STRIDE == 0]
    print(f"{script.__name__}: {len(points)} calls fail with {error}")
    for point in points:
        root, town = stage.copied(tmp_path / "root")
        try:
            suffering(script, point.fail(error))(stage, root, town, nothing_watches)
            recover(stage, script, root, town)
        except AssertionError as violation:
            raise AssertionError(f"{error} at {point}: {point.shown}") from violation


@pytest.mark.parametrize("every", [2, 3, 5, 7])
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwrite64", "writev"])
def test_a_disk_that_fails_again_and_again_makes_no_false_promise(
    stage: Stage, tmp_path: Path, call: str, every: int
) -> None:
    root, town = stage.copied(tmp_path / "root")
    injection = f"inject={call}:error=EIO:when={every}+{every}"
    suffering(scripts.push, injection, times=3)(stage, root, town, nothing_watches)
    recover(stage, scripts.push, root, town)


def test_a_failed_sync_of_a_blob_turns_readiness_red_until_the_next_start(stage: Stage, tmp_path: Path) -> None:
    root, town = stage.copied(tmp_path / "root")
    with stage.served(root) as (child, client):
        client.patient = True
        with attached(child, tmp_path / "trace", "inject=fsync:error=EIO:when=1"), pytest.raises(Refused):
            scripts.push(client, town)
        assert "sync" in client.send("GET", "/readyz", 503).body.decode()
        with pytest.raises(Refused):
            scripts.push(client, town)
        town.facts.check(client)
    with stage.served(root) as (_, client):
        client.send("GET", "/readyz", 200)
        scripts.push(client, town)


# ---- a full disk


def everything() -> list[Script]:
    return [scripts.push, scripts.mount, scripts.resume, scripts.delete, scripts.collect, scripts.rotate]


def fill_with_layers(client: Client, town: Town) -> int:
    """Pushes layers until none goes in any more; how many went."""
    for number in range(1000):
        try:
            scripts.put_blob(client, town, scripts.content(f"layer {number}", 500_000))
        except Refused:
            return number
    raise AssertionError("the disk takes everything")


def test_a_full_disk_refuses_and_serves_and_forgets_nothing(stage: Stage, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=12) as disk:
        root, town = stage.copied(disk / "root")
        flags = ("--listen", "127.0.0.1:0", "--log-format", "json", "--reserve-bytes", "0", "--epoch-seconds", "4")
        with stage.zygote.run("serve", "--root", str(root), *flags) as child:
            child.wait_for(SETTLED)
            with contextlib.closing(administrator(child, root)) as client:
                client.patient = True
                ballast = Ballast(disk, 2_000_000)
                assert fill_with_layers(client, town) > 5
                ballast.take_all()
                town.facts.check(client)
                refused = [script.__name__ for script in everything() if not goes_through(script, client, town)]
                assert {"push", "mount", "resume", "rotate"} <= set(refused)
                client.send("GET", "/readyz", 503)
                town.facts.check(client)
                ballast.give_back()
                assert_whole(root, settled=False)
                client.patient = False
                give_back(client, town)
                for script in everything():
                    script(client, town)
                town.facts.check(client)
                wait_until_settled(root)
                assert layers_of(root) == 0


def goes_through(script: Script, client: Client, town: Town) -> bool:
    try:
        script(client, town)
    except Refused:
        return False
    return True


def give_back(client: Client, town: Town) -> None:
    """Deletes the layers and collects."""
    for path in [path for path, allowed in town.facts.allowed.items() if any(c and len(c) == 500_000 for c in allowed)]:
        with town.facts.change({path: None}):
            client.send("DELETE", path, 202, 404)
    scripts.collect(client, town)


def layers_of(root: Path) -> int:
    """Files of the layers that filled the disk, whole or not."""
    return sum(1 for path in stored(root).values() if path.stat().st_size == 500_000)


# ---- a damaged catalog, and a lost one


def damaged(root: Path, page: int) -> bool:
    """Flips the first bytes of a page; whether that shows."""
    with (root / CATALOG).open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        bytes_there = file.read(64)
        file.seek(page * PAGE_BYTES)
        file.write(bytes(byte ^ 0xFF for byte in bytes_there))
    try:
        with contextlib.closing(sqlite3.connect(f"file:{root / CATALOG}?mode=ro", uri=True)) as catalog:
            return catalog.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
    except sqlite3.DatabaseError:
        return True


def test_a_damaged_catalog_takes_no_writes_and_says_how_to_go_on(stage: Stage, tmp_path: Path) -> None:
    pages = (stage.root / CATALOG).stat().st_size // PAGE_BYTES
    shown, started = 0, 0
    for page in range(0, pages, STRIDE):
        root, town = stage.copied(tmp_path / "root")
        if not damaged(root, page):
            continue
        shown += 1
        with stage.zygote.serve(root) as child:
            line = child.wait_for("the catalog is damaged")
            assert "restore the catalog from a backup" in line
            with contextlib.suppress(RuntimeError), contextlib.closing(administrator(child, root)) as client:
                started += 1  # else it has ended
                reads_are_right_and_writes_refused(client, town)
    assert shown > pages // STRIDE // 2
    assert started > 0


def reads_are_right_and_writes_refused(client: Client, town: Town) -> None:
    for path, allowed in town.facts.allowed.items():
        found = client.try_send("GET", path)
        assert found.status != 200 or found.body in allowed, path
    ready = client.send("GET", "/readyz", 503)
    assert any("restore the catalog" in reason for reason in json.loads(ready.body)["reasons"])
    blob = scripts.content("new")
    for query in ("", f"?digest={digest_of(blob)}"):
        refused = client.try_send("POST", f"{scripts.REPOSITORY}/blobs/uploads/{query}", blob)
        assert refused.status in (401, 404, 503), refused.body


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_folder_that_has_lost_its_catalog_keeps_its_blobs(stage: Stage, tmp_path: Path, how: str) -> None:
    root, _ = stage.copied(tmp_path / "root")
    before = stored(root)
    (root / CATALOG).unlink()
    if how == "empty":
        (root / CATALOG).touch(mode=0o600)
    for _ in range(2):
        with stage.zygote.serve(root) as child:
            said = child.wait_for("regserver: ")
            assert "blobs" in said and "restore a backup" in said.lower()
            child.wait()
    assert stored(root) == before
