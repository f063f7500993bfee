"""The files inside a layer, folder by folder."""

from __future__ import annotations

import asyncio

from aiohttp import web

from regserver.console.pages.registry import frame
from regserver.console.visit import Visit
from regserver.content import layer_files
from regserver.content.layer_files import LayerFiles
from regserver.content.tarlist import Ending
from regserver.errors import ErrorCode, RegistryError

SHOWN = 500  # lines of one folder, or found
LARGEST = 12
MAX_TEXT = 1024

ENDINGS = {
    Ending.TIME: "Reading stopped after its time was up: this is only the beginning of the layer.",
    Ending.UNPACKED: "Reading stopped: behind its compression the layer is larger than is read here.",
    Ending.ENTRIES: "Reading stopped: the layer has more entries than are read here.",
    Ending.TEXT: "Reading stopped: the names in the layer are longer than is read here.",
    Ending.DAMAGED: "The archive is damaged: this is what stands before the damage.",
    Ending.NOT_TAR: "This layer is no tar archive, plain, gzip or zstd. Its files cannot be listed.",
}


async def show(visit: Visit) -> web.Response:
    top = await frame(visit, "images")
    target, digest = visit.target(top["registry"]), visit.digest()
    path, wanted = visit.asked("path")[:MAX_TEXT].strip("/"), visit.asked("q")[:MAX_TEXT]
    try:
        listing = await LayerFiles(visit.services.core).listing(target, digest)
    except RegistryError as refused:
        raise RegistryError(ErrorCode.NOT_FOUND) if refused.code is ErrorCode.BLOB_UNKNOWN else refused from None
    lines = await asyncio.to_thread(layer_files.folder, listing, path)
    if path and not lines:
        raise RegistryError(ErrorCode.NOT_FOUND)
    found = await asyncio.to_thread(layer_files.search, listing, wanted, SHOWN) if wanted else []
    parts = path.split("/") if path else []
    return visit.page(
        "layer.html",
        **top,
        target=target,
        digest=str(digest),
        listing=listing,
        count=sum(entry.kind != "folder" for entry in listing.entries),
        bytes=sum(entry.size for entry in listing.entries),
        told=ENDINGS.get(listing.ending, ""),
        is_readable=listing.ending is not Ending.NOT_TAR,
        lines=lines[:SHOWN],
        more=len(lines) - SHOWN,
        heaviest=max((line.size for line in lines), default=0),
        largest=layer_files.largest(listing, LARGEST) if not path else [],
        found=found,
        chosen=wanted,
        at=path,
        above=[(part, "/".join(parts[: place + 1])) for place, part in enumerate(parts)],
        permissions=permissions,
    )


def permissions(mode: int) -> str:
    """``rwxr-xr-x``, with the bits that let a program run as somebody else."""
    marks = "".join(letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
    special = [name for bit, name in ((0o4000, "setuid"), (0o2000, "setgid"), (0o1000, "sticky")) if mode & bit]
    return " ".join([marks, *special])
