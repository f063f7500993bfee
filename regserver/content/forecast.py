"""What a collection would take, and why: computed on one snapshot, changing nothing.

The rules are the collector's (docs/gc-proof.md, L5 and L8) read the other way round; a test holds the two together:
what a forecast names is what the next collection takes, to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from regserver.storage.catalog import blobs, garbage, holders, repositories, tags
from regserver.storage.catalog.garbage import Floors
from regserver.storage.sql.port import Reader

PAGE = 500
Place = tuple[int, str]  # (repository, digest)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that would go. ``size`` in bytes: a blob's are given back by the disk, a manifest's by the catalog."""

    kind: str  # manifest, blob
    image: str | None
    digest: str
    size: int
    reason: str


@dataclass(slots=True)
class Forecast:
    manifests: list[Item] = field(default_factory=list)
    blobs: list[Item] = field(default_factory=list)

    @property
    def bytes_freed(self) -> int:
        """What ``unlink`` would give back."""
        return sum(blob.size for blob in self.blobs)


class Forecaster:
    """``without``: tags, as (repository, name), to be thought away: what would go if they were deleted."""

    def __init__(
        self, reader: Reader, registry_id: str, floors: Floors, without: frozenset[tuple[int, str]] = frozenset()
    ) -> None:
        self._reader = reader
        self._registry_id = registry_id
        self._floors = floors
        self._without = without
        self._dead: dict[Place, bool] = {}

    async def everything(self) -> Forecast:
        """What a collection of the whole registry would take now."""
        forecast, names = Forecast(), await holders.image_names(self._reader, self._registry_id)
        dead = await self._dead_manifests()
        for repository_id, digest in dead:
            facts = await holders.manifest_facts(self._reader, repository_id, digest)
            reason = "no tag reaches it, no lease and no window holds it"
            forecast.manifests.append(
                Item("manifest", names[repository_id], digest, facts.size if facts else 0, reason)
            )
        links = await self._links_of(dead)
        for repository_id in await repositories.in_registry(self._reader, self._registry_id):
            links.update((repository_id, digest) for digest in await self._unused_links(repository_id))
        for digest, size in await self._freed(links):
            reason = "the last repository that links it has no more use for it, and no lease holds it"
            forecast.blobs.append(Item("blob", None, digest, size, reason))
        for digest in await garbage.loose_blobs(self._reader, "", self._floors.lease, 2**31 - 1):
            loose = await blobs.size(self._reader, digest) or 0
            forecast.blobs.append(Item("blob", None, digest, loose, "no repository links it"))
        return forecast

    async def reclaimable(self, repository_id: int, manifests: list[str]) -> int:
        """Bytes that the disk would get back if ``without`` were deleted: of what hangs on these manifests."""
        dead = [(repository_id, digest) for digest in await self._below(repository_id, manifests)]
        dead = [place for place in dead if await self.is_dead(*place)]
        return sum(size for _, size in await self._freed(await self._links_of(dead)))

    async def is_dead(self, repository_id: int, digest: str) -> bool:
        """Does nothing in the closure of parents and subjects hold it (L8)?"""
        known = self._dead.get((repository_id, digest))
        if known is not None:
            return known
        closure, waiting, dead = {digest}, [digest], True
        while waiting and dead:
            member = waiting.pop()
            dead = not await self._is_rooted(repository_id, member)
            new = set(await garbage.keepers(self._reader, repository_id, member)) - closure
            closure |= new
            waiting.extend(new)
        self._dead[repository_id, digest] = dead
        return dead

    async def _is_rooted(self, repository_id: int, digest: str) -> bool:
        names = await tags.of_manifest(self._reader, repository_id, digest)
        if all((repository_id, name) in self._without for name in names):
            facts = await holders.manifest_facts(self._reader, repository_id, digest)
            return facts is not None and holding(facts, self._floors) is not None
        return True

    async def _dead_manifests(self) -> list[Place]:
        found: list[Place] = []
        after = (0, "")
        while page := await garbage.untagged_manifests(self._reader, self._registry_id, after, PAGE):
            found += [(row[0], row[1]) for row in page if await self.is_dead(row[0], row[1])]
            after = (page[-1][0], page[-1][1])
        return found

    async def _below(self, repository_id: int, manifests: list[str]) -> list[str]:
        found, waiting = set(manifests), list(manifests)
        while waiting:
            new = set(await holders.kept_by(self._reader, repository_id, waiting.pop())) - found
            found |= new
            waiting.extend(new)
        return sorted(found)

    async def _links_of(self, dead: list[Place]) -> set[Place]:
        """The links that only dead manifests use."""
        used = {(place[0], blob) for place in dead for blob, _ in await holders.blobs_of(self._reader, *place)}
        return {link for link in used if await self._is_unused(*link)}

    async def _is_unused(self, repository_id: int, digest: str) -> bool:
        lease = await holders.blob_lease(self._reader, digest, repository_id)
        if lease is not None and lease >= self._floors.lease:
            return False
        for user in await holders.users_of(self._reader, repository_id, digest):  # the first one alive settles it
            if not await self.is_dead(repository_id, user):
                return False
        return True

    async def _unused_links(self, repository_id: int) -> list[str]:
        found: list[str] = []
        after = ""
        while page := await garbage.unused_links(self._reader, repository_id, after, self._floors.lease, PAGE):
            found += page
            after = page[-1]
        return found

    async def _freed(self, links: set[Place]) -> list[tuple[str, int]]:
        """(digest, size) of the blobs whose every link goes and that no lease holds (L5)."""
        going: dict[str, set[int]] = {}
        for repository_id, digest in links:
            going.setdefault(digest, set()).add(repository_id)
        freed = []
        for digest, places in sorted(going.items()):
            lease = await holders.blob_lease(self._reader, digest)
            held = lease is not None and lease >= self._floors.lease
            if not held and await holders.linking(self._reader, digest, len(places) + 1) <= places:
                freed.append((digest, await blobs.size(self._reader, digest) or 0))
        return freed


def holding(facts: holders.ManifestFacts, floors: Floors) -> tuple[str, int | None] | None:
    """What holds a manifest besides tags: (reason, how many epochs more, at most; None has no end), or None."""
    if facts.policy:
        return "keep_untagged", None
    if facts.lease is not None and facts.lease >= floors.lease:
        return "lease", facts.lease - floors.lease + 1
    if not facts.was_held and facts.pushed_epoch >= floors.untagged:
        return "untagged_window", facts.pushed_epoch - floors.untagged + 1
    if facts.released_epoch is not None and facts.released_epoch >= floors.undo:
        return "undo_window", facts.released_epoch - floors.undo + 1
    return None
