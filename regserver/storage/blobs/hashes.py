"""Hashes that run along while an upload is written. They save a second reading and decide nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from regserver.model.digest import Algorithm, Hasher


@dataclass(slots=True)
class RunningHash:
    """Of the first ``counted`` bytes of a staged file, every one of them hashed by this process."""

    algorithm: Algorithm
    hasher: Hasher
    counted: int = 0

    def update(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            self.hasher.update(part)
        self.counted += sum(map(len, parts))


class RunningHashes:
    """Kept by key between two requests, the oldest forgotten first. For the loop's thread only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hashes: OrderedDict[str, RunningHash] = OrderedDict()

    def take(self, key: str, algorithm: Algorithm, size: int) -> RunningHash | None:
        """The hash for an upload of ``size`` bytes, as far as it came; an empty upload begins a new one."""
        found = self._hashes.pop(key, None)
        return RunningHash(algorithm, algorithm.hasher()) if size == 0 else found

    def keep(self, key: str, running: RunningHash) -> None:
        self._hashes[key] = running
        while len(self._hashes) > self._limit:
            self._hashes.popitem(last=False)

    def forget(self, key: str) -> None:
        self._hashes.pop(key, None)
