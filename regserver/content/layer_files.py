"""The files of a layer, folder by folder. One layer is read at a time; what was read is remembered for a while.

A digest names the same bytes for ever, so what is remembered cannot contradict the catalog; whether somebody may see it
is asked each time, by opening the blob.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from regserver.content import tarlist
from regserver.content.blobs import Blobs
from regserver.content.core import Core
from regserver.content.tarlist import Entry, Limits, Listing
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.storage.blobs.port import LocalFile

REMEMBERED = 100_000  # entries of all listings together, some 35 MB at the most
WAITING = 8  # who comes while so many wait is told to come again
LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of one folder. ``size`` and ``count``: of all that is below it, for a folder."""

    name: str
    path: str
    entry: Entry | None  # None: a folder that the layer only implies
    size: int
    count: int

    @property
    def is_folder(self) -> bool:
        return self.entry is None or self.entry.kind in ("folder", "opaque")


class LayerFiles:
    def __init__(self, core: Core, limits: Limits = LIMITS) -> None:
        self._blobs = Blobs(core)
        self._limits = limits

    async def listing(self, target: Target, digest: Digest) -> Listing:
        """Raises RegistryError BLOB_UNKNOWN, TOO_MANY_REQUESTS while many layers wait to be read."""
        file = await self._blobs.open(target, digest)
        try:
            known = _recall(digest)
            if known is not None:
                return known
            if _turns.waiting >= WAITING:
                message = "other layers are being read; try again in a moment"
                raise RegistryError(ErrorCode.TOO_MANY_REQUESTS, message=message, headers={"Retry-After": "5"})
            async with _turns:
                found = _recall(digest)
                if found is None:  # nobody has read it while we waited
                    found = await asyncio.to_thread(self._read, file)
                    _remember(digest, found)
            return found
        finally:
            os.close(file.fd)

    def _read(self, file: LocalFile) -> Listing:
        with os.fdopen(os.dup(file.fd), "rb") as stream:
            return tarlist.read(stream, self._limits)


class _Turns:
    """Paces memory and processors only: nothing is decided by it."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self.waiting = 0

    async def __aenter__(self) -> None:
        self.waiting += 1
        await self._turn.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.waiting -= 1
        self._turn.release()


_turns = _Turns()
_known: OrderedDict[Digest, Listing] = OrderedDict()


def _recall(digest: Digest) -> Listing | None:
    found = _known.get(digest)
    if found is not None:
        _known.move_to_end(digest)
    return found


def _remember(digest: Digest, listing: Listing) -> None:
    if listing.ending is tarlist.Ending.TIME:
        return  # on a quieter machine it may come further
    _known[digest] = listing
    while sum(len(one.entries) for one in _known.values()) > REMEMBERED:
        _known.popitem(last=False)


def folder(listing: Listing, path: str) -> list[Line]:
    """What is directly below a path, folders first."""
    prefix = f"{path}/" if path else ""
    entries: dict[str, Entry | None] = {}
    sizes: dict[str, list[int]] = {}
    for entry in listing.entries:
        if not entry.path.startswith(prefix) or entry.path == path:
            continue
        name, slash, _ = entry.path[len(prefix) :].partition("/")
        tally = sizes.setdefault(name, [0, 0])
        tally[0] += entry.size
        tally[1] += 1 if entry.kind != "folder" else 0
        entries[name] = entries.get(name) if slash else entry
    lines = [Line(name, prefix + name, entry, *sizes[name]) for name, entry in entries.items()]
    return sorted(lines, key=lambda line: (not line.is_folder, line.name))


def largest(listing: Listing, count: int) -> list[Entry]:
    return sorted((entry for entry in listing.entries if entry.size), key=lambda entry: -entry.size)[:count]


def search(listing: Listing, text: str, count: int) -> list[Entry]:
    """Entries with the text anywhere in their path, in either case."""
    wanted = text.lower()
    return [entry for entry in listing.entries if wanted in entry.path.lower()][:count]


def merged(listings: Sequence[Listing]) -> dict[str, Entry]:
    """The files that a container of these layers sees (image spec, "Applying Changesets"), by path.

    A tree, so that a whiteout of a folder costs the same whatever is below it.
    """
    root = _Node()
    for listing in listings:
        for entry in listing.entries:
            if entry.kind in ("removed", "opaque"):
                _take_away(root, entry)
        for entry in listing.entries:
            if entry.kind not in ("removed", "opaque"):
                _put(root, entry)
    return _flat(root)


class _Node:
    __slots__ = ("below", "entry")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.below: dict[str, _Node] = {}


def _take_away(root: _Node, entry: Entry) -> None:
    node, parts = root, entry.path.split("/")
    for part in parts[:-1]:
        if part not in node.below:
            return
        node = node.below[part]
    if entry.kind == "removed":
        node.below.pop(parts[-1], None)
    elif found := (root if not entry.path else node.below.get(parts[-1])):
        found.below.clear()


def _put(root: _Node, entry: Entry) -> None:
    node = root
    for part in entry.path.split("/"):
        node = node.below.setdefault(part, _Node())
    if entry.kind != "folder":
        node.below.clear()  # a file in the place of a folder
    node.entry = entry


def _flat(root: _Node) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.entry is not None and node.entry.kind != "folder":
            found[node.entry.path] = node.entry
        waiting.extend(node.below.values())
    return found
