"""Two tags of an image compared: layers, settings, files."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.console.pages.registry import frame
from regserver.console.visit import Visit
from regserver.content import comparison, inspection
from regserver.content.comparison import Comparison
from regserver.content.images import Images
from regserver.content.inspection import Child, Inspected, Inspection
from regserver.errors import RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.catalog.images import NameFilter, TagSort
from regserver.web.facts import texts

CHOICES = 200
SHOWN = 300


async def show(visit: Visit) -> web.Response:
    """Which two, if the address names no two; else what differs."""
    top = await frame(visit, "images")
    target = visit.target(top["registry"])
    named = [text for text in texts(visit.request, "tag") if text]
    rows, _ = await Images(visit.services.core).tags(target, NameFilter(), TagSort.PUSHED_AT_DESC, CHOICES, 0)
    if visit.asked("order") == "age":  # picked from a list: the older one comes first
        ages = {row.name: row.pushed_at for row in rows}
        named.sort(key=lambda name: ages.get(name, 0))
    values: dict[str, Any] = {"target": target, "choices": [row.name for row in rows], "named": named}
    try:
        tags = [Tag.parse(text) for text in named[:2]]
    except RegistryError:
        tags = []
    if len(tags) < 2:
        return visit.page("compare.html", **top, **values, ready=False)
    return await _compared(visit, top | values, target, tags[0], tags[1])


async def _compared(visit: Visit, values: dict[str, Any], target: Target, one: Tag, other: Tag) -> web.Response:
    inspect, wanted = Inspection(visit.services.core), visit.asked("platform")
    wholes = [await inspect.manifest(target, tag) for tag in (one, other)]
    platforms = [_platforms(whole) for whole in wholes]
    shared = [name for name in platforms[0] if name in platforms[1]]
    platform = wanted if wanted in shared else (shared[0] if shared else "")
    before, after = [
        await _image(inspect, target, whole, choice.get(platform))
        for whole, choice in zip(wholes, platforms, strict=True)
    ]
    configs = [await inspect.config(target, side) for side in (before, after)]
    files = await Comparison(visit.services.core).files(target, before, after)
    kinds = [change.kind for change in files.changes]
    sizes = [sum(layer["size"] for layer in side.layers) for side in (before, after)]
    return visit.page(
        "compare.html",
        **values,
        ready=True,
        shared=shared,
        platform=platform,
        layers=comparison.layers(before.layers, after.layers),
        largest=max((layer["size"] for layer in (*before.layers, *after.layers)), default=0),
        sizes=sizes,
        settings=comparison.settings(*configs),
        files=files,
        changes=files.changes[:SHOWN],
        counts={kind: kinds.count(kind) for kind in ("added", "removed", "changed", "mode")},
        heaviest=max((abs(change.growth) for change in files.changes), default=0),
    )


def _platforms(whole: Inspected) -> dict[str, Child]:
    return {
        child.platform: child for child in inspection.children(whole.document) if child.platform and not child.about
    }


async def _image(inspect: Inspection, target: Target, whole: Inspected, child: Child | None) -> Inspected:
    """What of an index is compared: the entry for the platform, else the first; an image is compared as it is.

    Raises RegistryError NOT_FOUND where it was never pushed."""
    if not whole.is_index:
        return whole
    entries = inspection.children(whole.document)
    chosen = child or (entries[0] if entries else None)
    return await inspect.manifest(target, Digest.parse(chosen.digest)) if chosen else whole
