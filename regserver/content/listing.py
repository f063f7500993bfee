"""Lists: tags, referrers, repositories. Keyset pages in bytewise order: a page costs the same at any place."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Account, Action, Kind, Target
from regserver.model.digest import Digest
from regserver.storage.catalog import manifests, referrers, repositories, tags
from regserver.storage.sql.port import Reader

PAGE_BYTES = 4 * 2**20
LARGE = 64 * 2**10  # bytes of JSON
LEAST = 100  # repositories read at once, where not all that is read is shown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """``more``: something follows the last item."""

    items: list[T]
    more: bool


def _page(found: list[T], limit: int) -> Page[T]:
    return Page(found[:limit], len(found) > limit)


class Listing:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def tags(self, target: Target, limit: int, last: str) -> Page[str]:
        """Up to ``limit`` tags after ``last`` (end-8). Raises NAME_UNKNOWN for a repository never pushed to."""
        repository_id = await repositories.find(self._core.db, target)
        if repository_id is None:
            raise RegistryError(ErrorCode.NAME_UNKNOWN, {"name": str(target.name)})
        return _page(await tags.page(self._core.db, repository_id, last, limit + 1), limit)

    async def referrers(
        self, target: Target, subject: Digest, artifact_type: str | None, limit: int, last: str
    ) -> Page[dict[str, Any]]:
        """Descriptors of what refers to ``subject``, by digest (end-12). Nothing here, or no such repository: empty.

        A page ends early where its annotations would make it larger than a manifest may well be. What clients wrote
        under the fallback tag (distribution spec, "Referrers Tag Schema") is taken in.
        """
        repository_id = await repositories.find(self._core.db, target)
        if repository_id is None:
            return Page([], False)
        asked = (self._core.db, repository_id, str(subject), artifact_type, last)
        limit = await referrers.fitting(*asked, limit, PAGE_BYTES)
        found = await referrers.page(*asked, limit + 1)
        listed = await self._fallback(repository_id, subject)
        known = {descriptor["digest"] for descriptor in found}
        extra = [
            descriptor
            for digest, descriptor in listed.items()
            if digest > last and digest not in known and artifact_type in (None, descriptor.get("artifactType"))
        ]
        if not extra:
            return _page(found, limit)
        # A full page may end before a listed referrer that a later page holds anyway: one order, no repetition.
        merged = sorted(found + extra, key=lambda descriptor: str(descriptor["digest"]))
        return _page(merged, limit)

    async def catalog(self, account: Account, limit: int, last: str) -> Page[str]:
        """Repositories that hold something and that the account may pull, ``last`` excluded."""
        own = account.registry_id if account.kind is Kind.ROBOT and Action.PULL in account.actions else None

        async def body(reader: Reader) -> list[str]:
            found: list[str] = []
            registry, _, image = last.partition("/")
            while len(found) <= limit:
                after, wanted = (registry, image), limit + 1 if account.images is None else max(limit + 1, LEAST)
                rows = await repositories.visible(reader, account.all_powerful, own or "", after, wanted)
                found += [f"{name}/{image}" for name, image, public in rows if public or account.reaches(image)]
                if len(rows) < wanted:
                    break
                registry, image, _ = rows[-1]
            return found[: limit + 1]

        return _page(await self._core.db.read(body), limit)

    async def _fallback(self, repository_id: int, subject: Digest) -> dict[str, dict[str, Any]]:
        tag = f"{subject.algorithm}-{subject.hex[:64]}"
        digest = await tags.find(self._core.db, repository_id, tag)
        content = await manifests.content(self._core.db, repository_id, digest) if digest else None
        if content is None:
            return {}
        large = len(content) > LARGE  # other requests need not wait for it
        document = await asyncio.to_thread(json.loads, content) if large else json.loads(content)
        entries = document.get("manifests")
        return {entry["digest"]: entry for entry in entries or []}
