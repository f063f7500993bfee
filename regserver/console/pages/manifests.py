"""A tag, or a manifest by its digest: its platforms, its layers and who made them, its config, what refers to it."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from regserver.console.pages.registry import frame
from regserver.console.visit import Visit
from regserver.console.words import kind_of
from regserver.content import inspection
from regserver.content.explain import Explain
from regserver.content.images import Images
from regserver.content.inspection import Child, Inspected, Inspection, Json
from regserver.errors import RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.names import Tag

SHOWN_BYTES = 200_000  # of a document as text


async def show(visit: Visit) -> web.Response:
    top = await frame(visit, "images")
    target, reference = visit.target(top["registry"]), visit.reference()
    inspect, tag = Inspection(visit.services.core), reference if isinstance(reference, Tag) else None
    whole = await inspect.manifest(target, reference)
    entries = inspection.children(whole.document)
    chosen = _choose(entries, visit.asked("child"))
    image = await _image(inspect, target, whole, chosen)
    config = await inspect.config(target, image) if image else None
    layers = image.layers if image else []
    return visit.page(
        "manifest.html",
        **top,
        target=target,
        reference=str(reference),
        tag=tag and str(tag),
        whole=whole,
        image=image,
        entries=entries,
        chosen=chosen,
        platform=inspection.platform_of(config),
        steps=inspection.steps(layers, config),
        layers=layers,
        layer_bytes=sum(layer["size"] for layer in layers),
        largest=max((layer["size"] for layer in layers), default=0),
        config=config,
        created=_claimed(config, "created"),
        settings=inspection.settings(config),
        annotations=inspection.notes(whole.document),
        referrers=await inspect.referrers(target, whole.digest),
        kind_of=kind_of,
        raw_config=_pretty(config),
        raw_manifest=_pretty(whole.document),
        reclaimable=await Explain(visit.services.core).reclaimable(target, [str(tag)]) if tag else None,
        pulled=await Images(visit.services.core).last_pulled(target, tag) if tag else None,
    )


def _choose(entries: list[Child], wanted: str) -> Child | None:
    """The entry of an index that is looked into: the one that is asked for, else the first."""
    return next((entry for entry in entries if entry.digest == wanted), entries[0] if entries else None)


async def _image(inspect: Inspection, target: Target, whole: Inspected, chosen: Child | None) -> Inspected | None:
    """The manifest whose layers are shown; None where an index is empty, or does not hold that entry."""
    if not whole.is_index:
        return whole
    try:
        return await inspect.manifest(target, Digest.parse(chosen.digest)) if chosen else None
    except RegistryError:  # an entry that was never pushed, or is no manifest
        return None


def _claimed(config: Json | None, name: str) -> str:
    value = (config or {}).get(name)
    return value[:64] if isinstance(value, str) else ""


def _pretty(document: Any) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False) if document is not None else ""
    return text if len(text) <= SHOWN_BYTES else text[:SHOWN_BYTES] + "\n… cut"
