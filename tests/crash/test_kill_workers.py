"""Workers are killed while clients push, delete and collect: one, the other, and then all with their supervisor.

What was acknowledged, by whichever of them, is there; who is left serves on, and who comes in its place serves too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

import pytest

from support.crowd import Crowd, check, collect_everything, ready
from support.invariants import violations, wait_until_settled
from support.ledger import Ledger
from support.registry import Process, served_process, until

ROUNDS = -(-int(os.environ.get("CRASH_ROUNDS", "50")) // 10)  # of three kills
WORKERS = 2
WORK_SECONDS = (0.1, 0.7)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
async def test_what_any_worker_acknowledged_survives_the_death_of_one_and_of_all(tmp_path: Path) -> None:
    ledger, root = Ledger(), tmp_path / "root"
    crowd = Crowd(ledger, random.Random(20261124))
    for number in range(ROUNDS):
        with served_process(root, "--dev", "--workers", str(WORKERS)) as server:
            for victim in (0, 1):
                await ready(server.url)
                await check(server.url, ledger)
                before = workers(server)
                await work_until(crowd, server, before[victim : victim + 1], others_serve=True)
                await until(lambda: len(workers(server)) == WORKERS and before[victim] not in workers(server))  # noqa: B023
                await until(lambda: server.messages.count("worker serves") == WORKERS + victim + 1)  # noqa: B023
            await check(server.url, ledger)
            left = [server.process.pid, *workers(server)]
            await work_until(crowd, server, left)
            server.process.wait()
            await until(lambda: not any(alive(pid) for pid in left[1:]))  # noqa: B023
        found = violations(root, settled=False)
        assert not found, f"after kill {number}: {found}"
    with served_process(root, "--dev", "--workers", str(WORKERS)) as server:
        await ready(server.url)
        await check(server.url, ledger)
        await asyncio.to_thread(wait_until_settled, root)
        await collect_everything(server.url, ledger)
        await asyncio.to_thread(wait_until_settled, root)
    print(f"{3 * ROUNDS} kills, {ledger.pushes} pushes and {ledger.deletes} deletes acknowledged")
    assert ledger.pushes > ROUNDS, "there was something to lose"
    assert ledger.deletes > ROUNDS, "there was something to come back"


async def work_until(crowd: Crowd, server: Process, victims: list[int], *, others_serve: bool = False) -> None:
    def kill() -> None:
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    await crowd.work_until_killed(
        server.url, kill, pushers=16, deleters=4, seconds=WORK_SECONDS, others_serve=others_serve
    )


def workers(server: Process) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(child) for child in children.split()]


def alive(pid: int) -> bool:
    """A dead one may have nobody yet who asks how it ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
