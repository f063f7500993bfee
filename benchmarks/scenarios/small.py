"""Small requests: asked again and again, asked by a client never seen before, and while the repository is pushed to."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from functools import partial

from benchmarks.clients import ONCE, Done, head
from benchmarks.contents import Small
from benchmarks.figures import LIMITS, Goal, Sample, Workload
from benchmarks.processes import NotMeasured
from benchmarks.scenarios.base import PER_REQUEST, Bench, Found, Scenario, counted
from benchmarks.servers import REPOSITORY, Peer, Server

CONNECTIONS = 64
LAYER_BYTES = 2048
PUSHES_PER_SECOND = 200
PUSHERS = 4


@dataclasses.dataclass(frozen=True)
class Request:
    name: str
    title: str
    method: str
    path: str  # of Small's fields


ASKED = (
    Request("head-tag", "HEAD manifest by tag", "HEAD", "manifests/{0.tag}"),
    Request("get-tag", "GET manifest by tag", "GET", "manifests/{0.tag}"),
    Request("head-digest", "HEAD manifest by digest", "HEAD", "manifests/{0.digest}"),
    Request("get-digest", "GET manifest by digest", "GET", "manifests/{0.digest}"),
    Request("head-blob", "HEAD blob", "HEAD", "blobs/{0.blob}"),
    Request("get-blob", "GET blob of 2 KiB", "GET", "blobs/{0.blob}"),
    Request("base", "GET /v2/", "GET", ""),
)


def path_of(asked: Request, image: Small) -> str:
    return f"/v2/{REPOSITORY}/{asked.path.format(image)}" if asked.path else "/v2/"


def ask(bench: Bench, server: Server, image: Small, asked: Request, agent: str = "bench") -> Done:
    request = head(asked.method, path_of(asked, image), server.host, server.header, agent)
    return bench.load.ask(server.host, request, CONNECTIONS, bench.seconds)


def fill(server: Server) -> Small:
    """nginx gets files of the same sizes under the same paths."""
    layer = os.urandom(LAYER_BYTES)
    if server.name != "nginx":
        return Small(server, layer)
    image = Small.__new__(Small)
    image.tag, image.digest, image.blob = "latest", "manifest", "layer"
    top = server.folder / "data" / "v2" / REPOSITORY
    for path, size in (("manifests/latest", 500), ("manifests/manifest", 500), ("blobs/layer", LAYER_BYTES)):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(os.urandom(size))
    (server.folder / "data" / "v2" / "index.html").write_text("{}")
    return image


class Again(Scenario):
    """The same request from 64 connections."""

    name = "again"
    workloads = tuple(
        Workload(asked.name, f"{asked.title}, asked again", "req/s", cpu_unit=PER_REQUEST) for asked in ASKED
    )
    goals = tuple(
        Goal(asked.name, factor, against)
        for asked in ASKED
        for factor, against in (
            (2 if asked.name == "base" else 3, "olareg"),
            (10, "v3"),
            (40, "2.8.2"),
            (0.667, "nginx"),
        )
    )

    without = frozenset({"limit"})

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        image = fill(server)
        for asked in ASKED:
            if bench.wanted(asked.name):
                peer.renew(server)
                yield asked.name, counted(server, partial(ask, bench, server, image, asked))


class First(Scenario):
    """Each request differs from all before: it goes through the handlers."""

    name = "first"
    without = LIMITS | {"zot"}
    workloads = tuple(
        Workload(f"first-{asked.name}", f"{asked.title}, first time", "req/s", cpu_unit=PER_REQUEST) for asked in ASKED
    )
    goals = tuple(
        Goal(f"first-{asked.name}", factor, against)
        for asked in ASKED
        for factor, against in ((0.6, "olareg"), (1.5, "v3"))
    )

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        image = fill(server)
        for asked in ASKED:
            if bench.wanted(f"first-{asked.name}"):
                peer.renew(server)
                sample = counted(server, partial(ask, bench, server, image, asked, f"bench/{ONCE}"))
                yield f"first-{asked.name}", sample


class Busy(Scenario):
    """Reads of one tag while its repository takes 200 manifests a second under other tags."""

    name = "busy"
    without = LIMITS | {"zot"}
    asked = ASKED[1]
    workloads = (
        Workload("busy-get-tag", "GET manifest by tag during 200 pushes/s", "req/s", cpu_unit=""),
        Workload("busy-pushes", "pushes meanwhile", "pushes/s", cpu_unit=""),
    )
    goals: Sequence[Goal] = (Goal("busy-get-tag", 1.5, "olareg"),)

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        image = fill(server)
        peer.renew(server)
        pushed: list[float] = []
        failed: list[NotMeasured] = []
        seconds = bench.seconds + 1

        def push() -> None:
            try:
                done = bench.load.manifests(
                    server.host, server.header, REPOSITORY, image.template, PUSHERS, seconds, PUSHES_PER_SECOND
                )
                pushed.append(done.count / done.seconds)
            except NotMeasured as error:
                failed.append(error)

        pushing = threading.Thread(target=push)
        pushing.start()
        try:
            sample = counted(server, partial(ask, bench, server, image, self.asked))
        finally:
            pushing.join()
        if failed:
            raise failed[0]
        yield "busy-get-tag", Sample(sample.value, None, sample.peak)
        yield "busy-pushes", Sample(pushed[0])
