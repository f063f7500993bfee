"""Numbers of this process, counted where things happen and shown by ``/metrics`` (docs/monitoring.md).

Counting costs an addition: nothing is locked, formatted or imported for it. A number is written by one thread only, so
none gets lost; a reader in between may see the parts of one observation a moment apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from typing import Any

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


Dumped = dict[str, Any]


class Histogram:
    """How many observations were at most each bound; the last count is of those above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, counts: Sequence[int], total: float) -> None:
        """What another one has observed."""
        self.counts = [mine + others for mine, others in zip(self.counts, counts, strict=True)]
        self.total += total

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass(slots=True)
class Answered:
    """Requests of one method, route and class of status. Bodies in bytes."""

    seconds: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    received: int = 0
    sent: int = 0


class Cache(StrEnum):
    """What is remembered to be faster. A new one is a new word here, and a call of ``Numbers.cached``."""

    TOKENS = "tokens"  # signatures of bearer tokens that were verified before
    EVENTS = "events"  # pages for followers that were in memory
    ANSWERS = "answers"  # whole answers that were given before


@dataclass(slots=True)
class Collected:
    """Collections that this process has run to their end, and what they gave back."""

    completed: int = 0
    failed: int = 0
    freed_bytes: int = 0
    blobs: int = 0
    manifests: int = 0


class Numbers:
    """Built once per application. Labels come from closed sets, so nothing here grows with what clients send."""

    def __init__(self) -> None:
        self.answered: dict[tuple[str, str, str], Answered] = {}  # by method, route, class of status ("2xx")
        self.caches: dict[Cache, list[int]] = {cache: [0, 0] for cache in Cache}  # misses, hits
        self.group_sizes = Histogram(GROUP_SIZES)
        self.commit_seconds = Histogram(COMMIT_SECONDS)
        self.collected = Collected()
        self.running = self.followers = 0  # known to a sum alone: requests under way, streams of events

    def answer(self, method: str, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """A request has ended. ``route`` is a template, never a path."""
        row = self.row(method, route, status)
        row.seconds.observe(seconds)
        row.received += received
        row.sent += sent

    def row(self, method: str, route: str, status: int) -> Answered:
        """Where requests of this kind are counted."""
        key = (method, route, f"{status // 100}xx")
        found = self.answered.get(key)
        if found is None:
            found = self.answered[key] = Answered()
        return found

    def cached(self, cache: Cache, *, hit: bool) -> None:
        """Something was looked for in a cache."""
        self.caches[cache][hit] += 1

    def committed(self, members: int, seconds: float) -> None:
        """The catalog's writer has made so many transactions durable with one COMMIT, in so many seconds."""
        self.group_sizes.observe(members)
        self.commit_seconds.observe(seconds)

    def ended(self, *, completed: bool, freed_bytes: int, blobs: int, manifests: int) -> None:
        """A collection has ended."""
        row = self.collected
        row.completed += completed
        row.failed += not completed
        row.freed_bytes += freed_bytes
        row.blobs += blobs
        row.manifests += manifests

    def dump(self, *, running: int, followers: int) -> Dumped:
        """All of it, for another process: lists, texts and numbers."""
        rows = [[*key, row.seconds.counts, row.seconds.total, row.received, row.sent] for key, row in self._rows()]
        return {
            "answered": rows,
            "caches": {str(cache): both for cache, both in self.caches.items()},
            "group_sizes": [self.group_sizes.counts, self.group_sizes.total],
            "commit_seconds": [self.commit_seconds.counts, self.commit_seconds.total],
            "collected": list(astuple(self.collected)),
            "running": running,
            "followers": followers,
        }

    def add(self, dumped: Dumped) -> None:
        """What another process has counted. Raises KeyError, TypeError or ValueError for what no process of this
        version says."""
        for method, route, status, counts, total, received, sent in dumped["answered"]:
            row = self.answered.setdefault((method, route, status), Answered())
            row.seconds.add(counts, total)
            row.received += received
            row.sent += sent
        for name, both in dumped["caches"].items():
            mine = self.caches[Cache(name)]
            mine[0], mine[1] = mine[0] + both[0], mine[1] + both[1]
        self.group_sizes.add(*dumped["group_sizes"])
        self.commit_seconds.add(*dumped["commit_seconds"])
        self.running += dumped["running"]
        self.followers += dumped["followers"]
        summed = zip(astuple(self.collected), dumped["collected"], strict=True)
        self.collected = Collected(*(mine + others for mine, others in summed))

    def _rows(self) -> list[tuple[tuple[str, str, str], Answered]]:
        return list(self.answered.items())  # in one step: requests go on beside who reads
