"""Numbers of this process, counted where things happen and shown by ``/metrics`` (docs/monitoring.md).

Counting costs an addition: nothing is locked, formatted or imported for it. A number is written by one thread only, so
none gets lost; a reader in between may see the parts of one observation a moment apart.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


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
    """What is remembered to be faster. A new one is a new word here; ``hit`` and ``miss`` count themselves."""

    TOKENS = "tokens"  # signatures of bearer tokens that were verified before
    CREDENTIALS = "credentials"  # passwords
    ANSWERS = "answers"  # small ones that stand under the exact head that asked for them
    EVENTS = "events"  # pages for followers that were in memory


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
