"""The process is killed while clients push, delete and collect. What was acknowledged is there after the restart.

`kill -9` is a crash of the process: what it has written is in the page cache and survives. What a power cut may take is
shown by the order of effects (tests/unit/test_filesystem_store.py, tests/contract/test_sqlite.py).
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from pathlib import Path

import pytest

from support.crowd import Crowd, check, collect_everything, ready
from support.invariants import opened, violations, wait_until_settled
from support.ledger import Ledger
from support.registry import served_process

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "50"))
PUSHERS, DELETERS = 16, 4
WORK_SECONDS = (0.1, 0.7)
READY_SECONDS = 2.0  # at the 99th percentile, from the start of the process, while it has a processor


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
async def test_what_was_acknowledged_survives_kill_after_kill(tmp_path: Path) -> None:
    ledger, starts, own = Ledger(), list[float](), list[float]()
    crowd, root = Crowd(ledger, random.Random(20261124)), tmp_path / "root"
    for number in range(ROUNDS):
        begun = time.monotonic()
        with served_process(root, "--dev") as server:
            await ready(server.url)
            starts.append(time.monotonic() - begun)
            own.append(starts[-1] - waited(server.process.pid))
            await check(server.url, ledger)
            await crowd.work_until_killed(
                server.url, server.process.kill, pushers=PUSHERS, deleters=DELETERS, seconds=WORK_SECONDS
            )
            server.process.wait()
        found = violations(root, settled=False)
        assert not found, f"after kill {number}: {found}"
    with served_process(root, "--dev") as server:
        await ready(server.url)
        await check(server.url, ledger)
        await asyncio.to_thread(wait_until_settled, root)
        await collect_everything(server.url, ledger)
        await asyncio.to_thread(wait_until_settled, root)
        assert held_by_nothing(root) == set(), "I5: a blob that nothing holds"
    print(f"{ROUNDS} kills, {ledger.pushes} pushes and {ledger.deletes} deletes acknowledged")
    print(f"ready again in {figures(starts)}; without the waits for a processor in {figures(own)}")
    assert ledger.pushes > ROUNDS, "there was something to lose"
    assert ledger.deletes > ROUNDS, "there was something to come back"
    assert percentile(own, 99) < READY_SECONDS, own


def held_by_nothing(root: Path) -> set[str]:
    with opened(root) as catalog:
        return {row[0] for row in catalog.execute(_LOOSE)}


_LOOSE = """
SELECT digest FROM blobs
WHERE digest NOT IN (SELECT digest FROM repository_blobs) AND digest NOT IN (SELECT digest FROM blob_leases)
"""


def percentile(values: list[float], rank: int) -> float:
    """The smallest value that ``rank`` percent of them do not exceed."""
    return sorted(values)[-(-len(values) * rank // 100) - 1]


def figures(seconds: list[float]) -> str:
    """For docs/reliability.md; shown with `pytest -rP`."""
    late = percentile(seconds, 99)
    return f"{statistics.median(seconds):.2f} s (median), {late:.2f} s (p99), {max(seconds):.2f} s (longest)"


def waited(pid: int) -> float:
    """Seconds in which the process could have run, had other work left it a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
