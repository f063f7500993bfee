"""Little things pushed by sixteen clients at once. regserver answers when they are on the disk; not everybody waits."""

from __future__ import annotations

import os
from functools import partial

from benchmarks.contents import Small
from benchmarks.figures import Goal, Workload
from benchmarks.scenarios.base import PER_REQUEST, Bench, Found, Scenario, counted
from benchmarks.servers import REPOSITORY, Peer, Server

PUSHERS = 16
LONGER = 2  # than a small request: it takes a while until the disk is as busy as it stays
BLOB_BYTES = 4096
BLOBS_PER_SECOND = 8000  # more than anybody has reached: so many are made ready


class Durable(Scenario):
    name = "durable"
    workloads = (
        Workload("blobs", "4 KiB blobs pushed, 16 at once", "blobs/s", cpu_unit=PER_REQUEST),
        Workload("manifests", "manifests pushed, 16 at once", "manifests/s", cpu_unit=PER_REQUEST),
    )
    goals = (
        Goal("blobs", 3, "v3"),
        Goal("blobs", 1, "olareg"),
        Goal("manifests", 3.5, "v3"),
        Goal("manifests", 1, "olareg"),
    )

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        seconds = LONGER * bench.seconds
        if bench.wanted("blobs"):
            count = BLOBS_PER_SECOND * seconds
            for number in range(count):
                bench.load.digest(number, BLOB_BYTES)  # reckoned before the clock runs
            os.sync()
            push = partial(bench.load.push, "put", server.host, server.header, REPOSITORY, BLOB_BYTES, count, PUSHERS)
            yield "blobs", counted(server, partial(push, seconds))
        if bench.wanted("manifests"):
            body = Small(server, os.urandom(2048)).template
            peer.renew(server)
            os.sync()
            push = partial(bench.load.manifests, server.host, server.header, REPOSITORY, body, PUSHERS, seconds)
            yield "manifests", counted(server, push)
