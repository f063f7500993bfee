"""One tag as people want to see it: for which platforms, of what type, and what refers to it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from regserver.content.blobs import Blobs
from regserver.content.core import Core
from regserver.content.listing import Listing
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.blobs.port import LocalFile
from regserver.storage.catalog import images, manifests, repositories, scrub
from regserver.storage.catalog.images import NameFilter, TagRow, TagSort
from regserver.storage.sql.port import Reader

MAX_CONFIG_BYTES = 2**20  # a larger config is an artifact's, not an image's
MAX_REFERRERS = 1000
MAX_WORD = 64  # characters; nothing in a config is checked by anybody before
_PLATFORM = ("os", "architecture", "variant")
_UNKNOWN = "unknown"  # what BuildKit gives an attestation for a platform

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TagDetail:
    """``platforms``: os, architecture and, where there is one, variant. ``referrers``: descriptors (end-12).
    ``damaged``: something that it needs has rotted."""

    row: TagRow
    platforms: list[dict[str, str]]
    referrers: list[Json]
    damaged: bool


class TagDetails:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._blobs = Blobs(core)
        self._listing = Listing(core)

    async def get(self, target: Target, tag: Tag) -> TagDetail:
        """Raises RegistryError NOT_FOUND."""

        async def body(reader: Reader) -> tuple[TagRow, bytes | None, bool]:
            chosen, repository_id = NameFilter(name=str(tag)), await repositories.find(reader, target)
            rows, _ = await images.tags(reader, target.registry_id, target.name.image, chosen, TagSort.NAME, 1, 0)
            if not repository_id or not rows:
                raise RegistryError(ErrorCode.NOT_FOUND)
            damaged = await scrub.is_hollow(reader, repository_id, rows[0].digest)
            return rows[0], await manifests.content(reader, repository_id, rows[0].digest), damaged

        row, content, damaged = await self._core.db.read(body)
        document = await asyncio.to_thread(json.loads, content) if content is not None else {}
        platforms = await self._platforms(target, document)
        return TagDetail(row, platforms, await self._referrers(target, row.digest), damaged)

    async def _platforms(self, target: Target, document: Json) -> list[dict[str, str]]:
        """What an index says of its entries, or an image's config of itself; nothing for any other artifact."""
        entries = document.get("manifests")
        if entries is not None:
            stated = [_platform(entry.get("platform")) for entry in entries]
        else:
            stated = [_platform(await self._config(target, document.get("config")))]
        found: list[dict[str, str]] = []
        for platform in stated:
            if platform is not None and platform not in found:
                found.append(platform)
        return found

    async def _config(self, target: Target, descriptor: Json | None) -> Any:
        if descriptor is None or descriptor["size"] > MAX_CONFIG_BYTES:
            return None
        try:
            file = await self._blobs.open(target, Digest.parse(descriptor["digest"]))
        except RegistryError:  # left out of a sparse image, or deleted meanwhile
            return None
        return await asyncio.to_thread(_load, file)

    async def _referrers(self, target: Target, digest: str) -> list[Json]:
        found: list[Json] = []
        more = True
        while more and len(found) < MAX_REFERRERS:
            last = found[-1]["digest"] if found else ""
            page = await self._listing.referrers(target, Digest(digest), None, MAX_REFERRERS - len(found), last)
            found, more = found + page.items, page.more and bool(page.items)
        return found


def _load(file: LocalFile) -> Any:
    """The JSON of a config; None for one that is none, as anybody may push anything as a config."""
    with os.fdopen(file.fd, "rb") as stream:
        content = stream.read()
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _platform(stated: Any) -> dict[str, str] | None:
    if not isinstance(stated, dict):
        return None
    platform = {field: stated[field] for field in _PLATFORM if _is_word(stated.get(field))}
    return platform if {"os", "architecture"} <= set(platform) and platform["os"] != _UNKNOWN else None


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_WORD
