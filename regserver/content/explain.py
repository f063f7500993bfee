"""Why is this here? The shortest path from a tag, or the lease or window that holds it, and until when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from regserver.content.collector import floors
from regserver.content.core import Core
from regserver.content.forecast import Forecast, Forecaster, holding
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.storage.catalog import garbage, holders, manifests, repositories, scrub, tags
from regserver.storage.catalog.garbage import Floors
from regserver.storage.sql.port import Reader

PLACES = 50  # images of a registry that are looked at for one digest


@dataclass(frozen=True, slots=True)
class Explanation:
    """``reason``: tag, keep_untagged (the registry's policy), lease, untagged_window, undo_window, other_registry, none
    (the next collection takes it).

    ``path`` leads from the tag down to the digest; ``seconds``: in at most so many the lease or window has ended.
    """

    digest: str
    kind: str  # manifest, blob
    reason: str
    image: str | None = None
    path: tuple[str, ...] = ()
    seconds: int | None = None
    damaged: bool = False  # it has rotted, and is served to nobody

    @property
    def kept(self) -> bool:
        return self.reason != "none"


class Explain:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def why(self, registry_id: str, digest: Digest) -> Explanation:
        """Raises RegistryError NOT_FOUND for a digest that the registry does not hold."""

        async def body(reader: Reader) -> Explanation:
            limits = await floors(self._core, reader, patient=True)
            found = await _Search(reader, limits, self._core.settings.epoch_seconds).why(registry_id, str(digest))
            return replace(found, damaged=await scrub.is_marked(reader, registry_id, str(digest)))

        return await self._core.db.read(body)

    async def forecast(self, registry_id: str) -> Forecast:
        """What a collection that a person asks for would take now: the dry run."""

        async def body(reader: Reader) -> Forecast:
            return await Forecaster(reader, registry_id, await floors(self._core, reader, patient=False)).everything()

        return await self._core.db.read(body)

    async def reclaimable(self, target: Target, names: list[str] | None = None) -> int:
        """Bytes that deleting these tags of an image (None: all of them) and collecting would give back."""

        async def body(reader: Reader) -> int:
            repository_id = await repositories.find(reader, target)
            if repository_id is None:
                return 0
            limits = await floors(self._core, reader, patient=False)
            if names is None:
                return await holders.reclaimable(reader, repository_id, limits)
            found = [await tags.find(reader, repository_id, name) for name in names]
            without = frozenset((repository_id, name) for name in names)
            forecaster = Forecaster(reader, target.registry_id, limits, without)
            return await forecaster.reclaimable(repository_id, sorted({digest for digest in found if digest}))

        return await self._core.db.read(body)


class _Search:
    def __init__(self, reader: Reader, limits: Floors, epoch_seconds: int) -> None:
        self._reader = reader
        self._limits = limits
        self._epoch_seconds = epoch_seconds

    async def why(self, registry_id: str, digest: str) -> Explanation:
        places = await holders.places(self._reader, registry_id, digest, PLACES)
        if not places:
            raise RegistryError(ErrorCode.NOT_FOUND)
        found = [answer for place in places for answer in await self._in(*place, digest)]
        order = ("tag", "keep_untagged", "lease", "untagged_window", "undo_window")
        if found:
            return min(found, key=lambda answer: (order.index(answer.reason), len(answer.path)))
        kind = await self._kind(places[0][0], digest)
        elsewhere = await holders.linking(self._reader, digest, len(places) + 1) - {place[0] for place in places}
        return Explanation(digest, kind, "other_registry" if elsewhere else "none")

    async def _kind(self, repository_id: int, digest: str) -> str:
        there = await manifests.size_here(self._reader, repository_id, digest)
        return "manifest" if there is not None else "blob"

    async def _in(self, repository_id: int, image: str, digest: str) -> list[Explanation]:
        """Breadth first, upwards: the first tag met is at the end of a shortest path."""
        kind = await self._kind(repository_id, digest)
        answers: list[Explanation] = []
        start = [digest] if kind == "manifest" else await holders.users_of(self._reader, repository_id, digest)
        paths = deque((member, (member,) if kind == "manifest" else (member, digest)) for member in start)
        seen = set(start)
        while paths:
            member, path = paths.popleft()
            names = await tags.of_manifest(self._reader, repository_id, member)
            if names:
                return [Explanation(digest, kind, "tag", image, (names[0], *path))]
            answers += await self._held(repository_id, image, digest, kind, path)
            above = [up for up in await garbage.keepers(self._reader, repository_id, member) if up not in seen]
            seen.update(above)
            paths.extend((up, (up, *path)) for up in above)
        if kind == "blob":
            answers += await self._leased(repository_id, image, digest)
        return answers

    async def _held(
        self, repository_id: int, image: str, digest: str, kind: str, path: tuple[str, ...]
    ) -> list[Explanation]:
        facts = await holders.manifest_facts(self._reader, repository_id, path[0])
        held = holding(facts, self._limits) if facts else None
        if held is None:
            return []
        reason, epochs = held
        seconds = None if epochs is None else epochs * self._epoch_seconds
        return [Explanation(digest, kind, reason, image, path, seconds)]

    async def _leased(self, repository_id: int, image: str, digest: str) -> list[Explanation]:
        lease = await holders.blob_lease(self._reader, digest, repository_id)
        if lease is None or lease < self._limits.lease:
            return []
        seconds = (lease - self._limits.lease + 1) * self._epoch_seconds
        return [Explanation(digest, "blob", "lease", image, (digest,), seconds)]
