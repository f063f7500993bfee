"""Garbage collected by collection.py: half of 22,000 contents, by regserver online, by distribution offline."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import collection
from benchmarks.figures import Goal, Sample, Workload
from benchmarks.processes import NotMeasured
from benchmarks.scenarios.base import Bench, Found, Scenario
from benchmarks.servers import Peer, Regserver, Server
from support.served import serve

IMAGES = 2000
SEED = 5


class Collecting(Scenario):
    name = "collect"
    workloads = (Workload("collect", "collection of 22,000 → 11,000 contents", "s", less=True),)
    goals = (Goal("collect", 0.05, "v3", at_most=True),)  # 20 times as fast

    def takes(self, peer: Peer) -> bool:
        return isinstance(peer, Regserver) or peer.name == "v3"

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        """The server that was started for the scenario is left alone: distribution's has to be down, regserver's of
        collection.py asks for no credentials."""
        images = list(collection.make_images(IMAGES // bench.shrink, SEED))
        folder = server.folder / "collection"
        folder.mkdir()
        try:
            if isinstance(peer, Regserver):
                yield "collect", Sample(self._online(folder, images))
            else:
                yield "collect", Sample(collection.collect_offline(peer.program(), folder, images))
        except SystemExit as error:  # how collection.py says that something is wrong
            raise NotMeasured(str(error)) from error

    def _online(self, folder: Path, images: list[collection.Image]) -> float:
        with serve(folder / "data", "--dev") as served:
            seconds, _, _ = asyncio.run(collection.measure(served, images))
        return seconds
