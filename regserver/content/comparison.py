"""Two images beside each other: their layers, their settings, and the files that a container of each sees."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regserver.content.core import Core
from regserver.content.inspection import Inspected, Json
from regserver.content.layer_files import LayerFiles, merged
from regserver.content.tarlist import Ending, Entry, Listing
from regserver.errors import RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest

MAX_LAYERS = 127  # what overlayfs takes; an image with more runs nowhere
MAX_VALUES = 2000  # of a config
MAX_TEXT = 2000  # characters of a value


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer, and in which of the two it is."""

    digest: str
    size: int
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of a config that differs; None: it is not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class FileChange:
    """``kind``: added, removed, changed, mode (the same bytes, other rights)."""

    path: str
    kind: str
    before: Entry | None
    after: Entry | None

    @property
    def growth(self) -> int:
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


@dataclass(frozen=True, slots=True)
class Files:
    """``unread``: layers that could not be read to their end, so that files of them may be missing here."""

    changes: list[FileChange]
    unread: list[str]
    same: int


def layers(before: Sequence[Json], after: Sequence[Json]) -> list[LayerPair]:
    """Those of the first in order, then those that only the second has."""
    here, there = ({layer["digest"] for layer in side} for side in (before, after))
    found = {
        layer["digest"]: LayerPair(layer["digest"], layer["size"], layer["digest"] in here, layer["digest"] in there)
        for layer in (*before, *after)
    }
    return list(found.values())


def settings(before: Json | None, after: Json | None) -> list[Setting]:
    """Where two configs differ, by dotted name. What follows from the layers is left out."""
    left, right = _flat(before), _flat(after)
    return [
        Setting(name, left.get(name), right.get(name))
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]


def _flat(config: Json | None) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [
        (str(name), value) for name, value in (config or {}).items() if name not in ("history", "rootfs")
    ]
    while waiting and len(found) < MAX_VALUES:
        name, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting += [(f"{name}.{key}", one) for key, one in value.items()]
        elif isinstance(value, list) and all(isinstance(one, str) and "=" in one for one in value):
            waiting += [(f"{name}.{one.partition('=')[0]}", one.partition("=")[2]) for one in value]
        elif isinstance(value, list):
            found[name] = " ".join(str(one) for one in value)[:MAX_TEXT]
        else:
            found[name] = str(value)[:MAX_TEXT]
    return found


def changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[list[FileChange], int]:
    """(what differs, the largest growth or loss first; how many files are the same)."""
    found = [
        FileChange(path, kind, before.get(path), after.get(path))
        for path in {*before, *after}
        if (kind := _kind(before.get(path), after.get(path)))
    ]
    found.sort(key=lambda change: (-abs(change.growth), change.path))
    return found, len({*before, *after}) - len(found)


def _kind(before: Entry | None, after: Entry | None) -> str | None:
    if before is None or after is None:
        return "added" if before is None else "removed"
    if (before.kind, before.size, before.hash, before.target) != (after.kind, after.size, after.hash, after.target):
        return "changed"
    return "mode" if before.mode != after.mode else None


class Comparison:
    def __init__(self, core: Core) -> None:
        self._files = LayerFiles(core)

    async def files(self, target: Target, before: Inspected, after: Inspected) -> Files:
        """Raises RegistryError TOO_MANY_REQUESTS."""
        unread: list[str] = []
        sides = [await self._listings(target, side, unread) for side in (before, after)]
        found, same = await asyncio.to_thread(_compare, *sides)
        return Files(found, list(dict.fromkeys(unread)), same)

    async def _listings(self, target: Target, side: Inspected, unread: list[str]) -> list[Listing]:
        found: list[Listing] = []
        for layer in side.layers[:MAX_LAYERS]:
            try:
                listing = await self._files.listing(target, Digest.parse(layer["digest"]))
            except RegistryError as refused:
                if refused.code.status != 404:
                    raise
                unread.append(layer["digest"])
                continue
            if listing.ending is not Ending.WHOLE:
                unread.append(layer["digest"])
            found.append(listing)
        return found


def _compare(before: list[Listing], after: list[Listing]) -> tuple[list[FileChange], int]:
    return changes(merged(before), merged(after))
