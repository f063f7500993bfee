"""What every scenario is made of."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.clients import GIB, Done, Load
from benchmarks.figures import LIMITS, Goal, Sample, Workload
from benchmarks.processes import Meter, NotMeasured
from benchmarks.servers import Peer, Server

PER_REQUEST = "µs"
PER_GIB = "s/GiB"


@dataclasses.dataclass(frozen=True)
class Bench:
    """``seconds``: of a workload that has no other end. ``mib``: of the large blob. ``wanted``: workloads to measure.
    ``shrink``: other amounts are divided by it."""

    folder: Path
    load: Load
    seconds: int
    mib: int
    wanted: Callable[[str], bool]
    shrink: int = 1


Found = Iterator[tuple[str, Sample]]


class Scenario(abc.ABC):
    """``without``: servers that are left out because no goal speaks of them and each costs minutes."""

    name: str
    workloads: Sequence[Workload]
    goals: Sequence[Goal]
    without: frozenset[str] = LIMITS

    def takes(self, peer: Peer) -> bool:
        return peer.name not in self.without

    @abc.abstractmethod
    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        """Samples by workload, of one server that has just been started."""


def counted(server: Server, action: Callable[[], Done]) -> Sample:
    """Requests per second, and microseconds of the server's processor for each."""
    with Meter(server.pid) as meter:
        done = action()
    if not done.count:
        raise NotMeasured("no request was answered in time")
    return Sample(done.count / done.seconds, meter.cpu / done.count * 1e6, meter.peak)


def moved(server: Server, action: Callable[[], Done]) -> Sample:
    """MB per second, and seconds of the server's processor per GiB. What others have written is on the disk before."""
    os.sync()
    with Meter(server.pid) as meter:
        done = action()
    return Sample(done.bytes / 1e6 / done.seconds, meter.cpu / (done.bytes / GIB), meter.peak)
