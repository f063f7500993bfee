"""The real code with one decision made wrongly: each is caught (docs/gc-proof.md, "Mistakes in the code")."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from stateful.test_crashing_machine import CrashingMachine
from support import mistakes, scenarios
from support.mistakes import Mistake
from support.scenarios import Scenario
from support.strace import find_strace

# The mistake, the story that falls, and in which words.
CAUGHT: list[tuple[Mistake, Scenario, str]] = [
    (mistakes.key_not_registered, scenarios.a_sweep_between_any_two_effects_of_an_upload, "refused"),
    (
        mistakes.no_recheck_at_finalise,
        scenarios.an_upload_is_cancelled_between_any_two_effects_of_its_end,
        "I1: .* has a row and no file",
    ),
    (mistakes.digest_named_files, scenarios.a_duplicate_is_taken_out, "I1: .* has a row and no file"),
    (mistakes.no_recheck_at_put, scenarios.a_blob_goes_between_any_two_effects_of_a_put, "not the client's to know"),
    (mistakes.one_session_spends_for_all, scenarios.two_push_the_same_image_and_the_first_is_cleared, "refused"),
    (
        mistakes.condemn_in_two_transactions,
        scenarios.a_blob_comes_back_between_any_two_effects_of_its_collection,
        "I1: .* has a row and no file",
    ),
    (
        mistakes.unlink_before_commit,
        scenarios.a_blob_comes_back_between_any_two_effects_of_its_collection,
        "I1: .* has a row and no file",
    ),
    (
        mistakes.unlink_before_commit,
        scenarios.killed_between_any_two_effects_of_a_collection,
        "I1: .* has a row and no file",
    ),
    (
        mistakes.forget_before_unlink,
        scenarios.killed_between_any_two_effects_of_a_collection,
        "I5: a file has lost its name",
    ),
    (mistakes.sweep_ignores_uploads, scenarios.a_sweep_between_any_two_effects_of_an_upload, "refused"),
    (
        mistakes.commit_before_publish,
        scenarios.killed_between_any_two_effects_of_a_push,
        "I1: .* has a row and no file",
    ),
    (mistakes.head_takes_no_lease, scenarios.a_promise_outlives_a_collection, "refused"),
    (mistakes.mount_and_finalise_take_no_lease, scenarios.a_promise_outlives_a_collection, "refused"),
    (mistakes.head_of_a_manifest_takes_no_lease, scenarios.a_promised_child_outlives_a_collection, "refused"),
    (
        mistakes.a_duplicate_of_a_withdrawn_blob,
        scenarios.killed_between_any_two_effects_of_a_withdrawal_and_its_healing,
        "refused",
    ),
    (mistakes.no_foreign_keys, scenarios.the_database_refuses_an_edge_to_nothing, "I1: an edge to nothing"),
    (mistakes.no_foreign_keys, scenarios.the_database_keeps_a_blob_that_is_linked, "I1: a link to nothing"),
]
# The first example that falls is enough, however long it is.
SEED = 1  # by which each falls within a few examples
UNTIL_IT_FALLS = settings(CrashingMachine.TestCase.settings, database=None, max_examples=100, phases=[Phase.generate])
STORIES = list(dict.fromkeys(story for _, story, _ in CAUGHT))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_the_store_as_it_is_passes(story: Scenario, tmp_path: Path) -> None:
    await story(tmp_path)


@pytest.mark.parametrize(("mistake", "story", "words"), CAUGHT, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_mistake_is_caught(
    mistake: Mistake, story: Scenario, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=words):
        await story(tmp_path)


# -- by the machine that is killed, which knows none of these stories

BY_THE_MACHINE: list[tuple[Mistake, str]] = [
    (mistakes.commit_before_publish, "I1: .* has a row and no file"),
    (mistakes.forget_before_unlink, "I5: a file has lost its name"),
]


@seed(SEED)
class Falling(CrashingMachine):
    async def _end(self) -> None:
        """Nothing: after a step that has failed, what the model says is not what there should be."""


@pytest.mark.parametrize(("mistake", "words"), BY_THE_MACHINE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_mistake_is_caught_by_the_machine(mistake: Mistake, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=words):
        run_state_machine_as_test(Falling, settings=UNTIL_IT_FALLS)


# -- what is durable when a COMMIT is answered, only the kernel can tell

ANSWERS = 8
WRITES = f"""
import asyncio, os, pathlib, sys
import pytest
from regserver.storage.sql.sqlite import SQLiteDatabase
from support import mistakes

async def main():
    database = await SQLiteDatabase.open(pathlib.Path(sys.argv[1]))
    await database.write(lambda tx: tx.execute("CREATE TABLE notes (id BIGINT)"))
    for number in range({ANSWERS}):
        await database.write(lambda tx: tx.execute("INSERT INTO notes VALUES ($1)", number))
        os.write(1, b"answered")
    await database.close()

for name in sys.argv[2:]:
    getattr(mistakes, name)(pytest.MonkeyPatch())
asyncio.run(main())
"""
# strace writes a call that takes long in two lines: "fdatasync(5</a/file> <unfinished ...>", "<... fdatasync resumed>".
_CALL = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)")


def answers_before_their_sync(folder: Path, *mistake: str) -> list[bool]:
    """For each answer, whether a page of the log had been written since the log was last synced."""
    trace, catalog = folder / "trace", folder / "catalog.db"
    command = [find_strace(), "-f", "-y", "-o", str(trace), "-e", "trace=pwrite64,write,fsync,fdatasync"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(
        [*command, sys.executable, "-c", WRITES, str(catalog), *mistake], env=environment, check=True, timeout=60
    )
    found, unsynced, syncing = [], False, ""
    for line in trace.read_text(errors="replace").splitlines():
        thread, name, rest = call.groups() if (call := _CALL.match(line)) else ("", "", "")
        of_the_log = "catalog.db-wal>" in rest
        if name == "pwrite64" and of_the_log:
            unsynced = True
        elif name in ("fsync", "fdatasync") and of_the_log and "unfinished" in rest:
            syncing = thread
        elif name in ("fsync", "fdatasync") and (of_the_log or ("resumed" in rest and syncing == thread)):
            unsynced, syncing = False, ""
        elif name == "write" and '"answered"' in rest:
            found.append(unsynced)
    return found


def test_every_commit_is_synced_before_it_is_answered(tmp_path: Path) -> None:
    assert answers_before_their_sync(tmp_path) == [False] * ANSWERS


def test_that_a_commit_is_not_synced_is_caught(tmp_path: Path) -> None:
    assert answers_before_their_sync(tmp_path, mistakes.synchronous_normal.__name__) == [True] * ANSWERS
