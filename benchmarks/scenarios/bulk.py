"""Large blobs in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

from benchmarks.clients import MIB
from benchmarks.figures import Goal, Kind, Workload
from benchmarks.scenarios.base import PER_GIB, Bench, Found, Scenario, moved
from benchmarks.servers import REPOSITORY, Peer, Server

PULLS = (1, 4, 16)


@dataclasses.dataclass(frozen=True)
class Push:
    name: str
    title: str
    how: str
    count: int
    at_once: int
    share: int  # of the large blob is one of these

    def size(self, bench: Bench) -> int:
        return max(1, bench.mib // self.share) * MIB


PUSHES = (
    Push("push-put", "push 1 GiB, one PUT", "put", 1, 1, 1),
    Push("push-patch", "push 1 GiB as docker does, chunked PATCH", "patch", 1, 1, 1),
    Push("push-4", "push 4 × 256 MiB at once", "put", 4, 4, 4),
    Push("push-64", "push 64 × 16 MiB at once", "put", 64, 64, 64),
)


class Pushing(Scenario):
    """A server of its own for each: nothing that is pushed has been there before, and no cache is full of the last."""

    def __init__(self, push: Push, goals: Sequence[Goal]) -> None:
        self.name = push.name
        self.goals = goals
        self._push = push
        self.workloads = (Workload(push.name, push.title, "MB/s", cpu_unit=PER_GIB),)

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        push = self._push
        size = push.size(bench)
        for number in range(push.count):
            bench.load.digest(number, size)  # reckoned before the clock runs
        yield (
            self.name,
            moved(
                server,
                lambda: bench.load.push(
                    push.how, server.host, server.header, REPOSITORY, size, push.count, push.at_once
                ),
            ),
        )


GOALS: dict[str, Sequence[Goal]] = {
    "push-put": (
        Goal("push-put", 2.5, "v3"),
        Goal("push-put", 2, "olareg"),
        Goal("push-put", 0.7, "v3", Kind.CPU, at_most=True),
        Goal("push-put", 0.7, "limit", other="sha256"),
    ),
    "push-patch": (
        Goal("push-patch", 1.4, "v3"),
        Goal("push-patch", 1.2, "olareg"),
        Goal("push-patch", 1.0, "v3", Kind.CPU, at_most=True),
    ),
    **{
        name: (
            Goal(name, 1.4, "v3"),
            Goal(name, 1.0, "olareg"),
            Goal(name, 160, "", Kind.PEAK, at_most=True),
        )
        for name in ("push-4", "push-64")
    },
}


class Pulling(Scenario):
    """The blob is in the page cache, as it is after a push."""

    name = "pull"
    workloads = tuple(
        Workload(
            f"pull-{count}", f"pull {count} × 1 GiB at once" if count > 1 else "pull 1 GiB", "MB/s", cpu_unit=PER_GIB
        )
        for count in PULLS
    )
    goals = tuple(
        goal
        for count in PULLS
        for goal in (
            Goal(f"pull-{count}", 1.3, "v3"),
            Goal(f"pull-{count}", 1.0, "olareg"),
            Goal(f"pull-{count}", 0.7, "v3", Kind.CPU, at_most=True),
        )
    )

    without = frozenset({"limit"})

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        path = self._fill(bench, server)
        for count in PULLS:
            if bench.wanted(f"pull-{count}"):
                yield (
                    f"pull-{count}",
                    moved(server, partial(bench.load.pull, server.host, server.header, path, count)),
                )

    def _fill(self, bench: Bench, server: Server) -> str:
        """The path of a large blob."""
        size = bench.mib * MIB
        if server.name != "nginx":
            bench.load.push("put", server.host, server.header, REPOSITORY, size, 1, 1)
            return f"/v2/{REPOSITORY}/blobs/{bench.load.digest(0, size)}"
        with (server.folder / "data" / "blob").open("wb") as file:
            for number in range(bench.mib):
                file.write(bench.load.content(number, MIB))
        return "/blob"


SCENARIOS: Sequence[Scenario] = (*(Pushing(push, GOALS.get(push.name, ())) for push in PUSHES), Pulling())
