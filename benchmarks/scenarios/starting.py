"""How long a server takes to its first answer, what it holds when nobody asks anything, and what the machine can do."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from benchmarks.clients import MIB
from benchmarks.contents import Small
from benchmarks.figures import Goal, Kind, Sample, Workload
from benchmarks.processes import resident_mb
from benchmarks.scenarios.base import Bench, Found, Scenario
from benchmarks.servers import Peer, Server

IDLE_SECONDS = 1.0


class Starting(Scenario):
    name = "start"
    workloads = (
        Workload("start", "start to the first answer, empty folder", "ms", less=True),
        Workload("restart", "start to the first answer, folder in use", "ms", less=True),
        Workload("idle", "memory held when idle", "MB", less=True),
    )
    goals = (
        Goal("start", 300, "", Kind.VALUE, at_most=True),
        Goal("restart", 300, "", Kind.VALUE, at_most=True),
        Goal("idle", 60, "", Kind.VALUE, at_most=True),
    )

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        yield "start", Sample(server.start_ms)
        time.sleep(IDLE_SECONDS)
        yield "idle", Sample(resident_mb(server.pid))
        Small(server, os.urandom(2048))
        yield "restart", Sample(peer.restart(server))


LIMIT_WORKLOADS = (
    Workload("sha256", "SHA-256 on one core", "MB/s"),
    Workload("write", "write and fsync of one file", "MB/s"),
    Workload("fsync", "write of 4 KiB and fsync", "ms", less=True),
)


def limits(folder: Path, mib: int) -> Found:
    """What no registry can pass on this machine."""
    part = os.urandom(MIB)
    state, began = hashlib.sha256(), time.monotonic()
    for _ in range(min(mib, 512)):
        state.update(part)
    yield "sha256", Sample(min(mib, 512) * MIB / 1e6 / (time.monotonic() - began))
    path = folder / "limit"
    os.sync()
    began = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(mib):
            file.write(part)
        os.fsync(file.fileno())
    yield "write", Sample(mib * MIB / 1e6 / (time.monotonic() - began))
    path.unlink()
    times = []
    for number in range(50):
        small = folder / f"limit-{number}"
        began = time.monotonic()
        with small.open("wb", buffering=0) as file:
            file.write(part[:4096])
            os.fsync(file.fileno())
        times.append(time.monotonic() - began)
        small.unlink()
    yield "fsync", Sample(sorted(times)[25] * 1000)
