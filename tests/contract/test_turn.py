"""Processes that all write much take turns; nobody waits for ever for one that stands still."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.storage.sql import turn
from regserver.storage.sql.turn import Turn
from support.registry import PATIENCE_SECONDS

OTHER = """
import sys
from pathlib import Path
from regserver.storage.sql.turn import Turn

row, order = Turn(Path(sys.argv[1])), Path(sys.argv[2])
with row.taken():
    print("held", flush=True)
    sys.stdin.readline()
with row.taken(), order.open("a") as lines:
    lines.write("other\\n")
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has its turn until it reads a line, and wants the next one at once."""
    command = [sys.executable, "-c", OTHER, str(tmp_path / "turn"), str(tmp_path / "order")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_has_written_and_wants_to_again_goes_behind_who_waits(
    other: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, sleep = threading.Event(), time.sleep

    def look_again_later(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(turn.time, "sleep", look_again_later)

    def write() -> None:
        with Turn(tmp_path / "turn").taken(), (tmp_path / "order").open("a") as lines:
            lines.write("this one\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert waits.wait(PATIENCE_SECONDS)
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    thread.join(PATIENCE_SECONDS)
    assert other.wait(PATIENCE_SECONDS) == 0
    assert (tmp_path / "order").read_text().splitlines() == ["this one", "other"]


def test_who_waits_in_vain_begins_all_the_same(
    other: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "PATIENCE_SECONDS", 0.0)
    row = Turn(tmp_path / "turn")
    with row.taken():
        assert other.poll() is None
    row.close()


def test_the_turn_of_a_process_that_died_is_the_next_ones(other: subprocess.Popen[str], tmp_path: Path) -> None:
    other.kill()
    other.wait()
    row = Turn(tmp_path / "turn")
    with row.taken():
        pass
    row.close()
