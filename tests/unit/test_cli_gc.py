"""``regserver gc run`` where the collection does not simply end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.registry import PATIENCE_SECONDS
from support.scripted import Scripted, scripted
from support.shell import Shell

ID = "reg_" + "0" * 26
RUNNING = {"job_id": "gc_1", "status": "running", "phase": "marking", "progress": {"done": 1, "total": 4}}
FAILED = {**RUNNING, "status": "failed", "error": "the store failed"}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as found:
        found.answer(200, {"data": {"id": ID, "name": "mine"}})
        found.answer(200, {"data": RUNNING})
        yield found


@pytest.fixture
def shell(server: Scripted, tmp_path: Path) -> Shell:
    return Shell(tmp_path, server.url)


async def test_a_collection_that_fails_is_a_command_that_fails(server: Scripted, shell: Shell) -> None:
    server.answer(200, {"data": FAILED})
    ended = await shell.run("gc", "run", ID, "--json")
    assert (ended.code, "the store failed" in ended.err) == (1, True)
    assert ended.json == FAILED


async def test_progress_is_shown_on_a_terminal(server: Scripted, shell: Shell) -> None:
    server.answer(200, {"data": RUNNING})
    server.answer(200, {"data": {**RUNNING, "status": "completed"}})
    ended = await shell.type("gc", "run", ID)
    assert ended.code == 0
    assert "marking" in ended.out
    assert "1/4" in ended.out


def test_who_stops_waiting_is_told_that_the_collection_goes_on(server: Scripted, shell: Shell) -> None:
    server.answer(200, {"data": RUNNING})
    command = [sys.executable, "-m", "regserver", "gc", "run", ID]
    process = subprocess.Popen(command, env=shell.environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(server.asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == f"the collection goes on; `regserver gc status {ID} gc_1` shows how it stands\n"


def one_job(**fields: object) -> dict[str, object]:
    return {"data": [{**RUNNING, **fields}], "meta": {"total": 1, "page": 1, "per_page": 1}}


async def test_cancel_ends_the_collection_that_runs(tmp_path: Path) -> None:
    with scripted() as server:
        server.answer(200, {"data": {"id": ID, "name": "mine"}})
        server.answer(200, one_job())
        server.answer(200, {"data": {**FAILED, "cancelled_by": "admin"}})
        ended = await Shell(tmp_path, server.url).run("gc", "cancel", ID)
        asked = [(method, path) for method, path, _ in server.asked]
    assert (ended.code, "Cancelled by  admin" in ended.out) == (0, True)
    assert asked[-1] == ("POST", f"/v1/registries/{ID}/gc/gc_1/cancel")


async def test_cancel_where_none_runs_ends_with_3(tmp_path: Path) -> None:
    with scripted() as server:
        server.answer(200, {"data": {"id": ID, "name": "mine"}})
        server.answer(200, one_job(status="completed"))
        ended = await Shell(tmp_path, server.url).run("gc", "cancel", ID)
    assert (ended.code, "no collection runs" in ended.err) == (3, True)
