"""Undo: a tag names again what it named before, as long as that is still there (docs/gc-proof.md, L11).

Whether it is there is looked up in the transaction that sets the tag, so a collection either finds the tag or is found
to have been first.
"""

from __future__ import annotations

from dataclasses import dataclass

from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Caller, Target
from regserver.model.audit import AuditAction
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.model.times import now_ms
from regserver.storage.catalog import audit, clock, history, manifests, repositories, tags
from regserver.storage.catalog.history import EventRow
from regserver.storage.sql.port import Reader, Transaction


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a tag. ``seconds``: for how long it can be undone at least, unless somebody asks for a collection;
    None where that has no end, or where it cannot be undone."""

    row: EventRow
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    restored: list[str]
    failed: list[str]  # their manifests are gone


class Undo:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def history(self, target: Target, tag: Tag, limit: int, offset: int) -> tuple[list[Event], int]:
        """A tag's changes, the newest first, and how many there are. Raises RegistryError NOT_FOUND without any."""

        async def body(reader: Reader) -> tuple[list[Event], int]:
            repository_id = await self._repository(reader, target)
            rows, total = await history.page(reader, repository_id, str(tag), limit, offset)
            if not total:
                raise RegistryError(ErrorCode.NOT_FOUND)
            floor = await clock.epoch(reader) - self._core.epochs(self._core.settings.undo_seconds)
            return [Event(row, self._seconds(row, floor)) for row in rows], total

        return await self._core.db.read(body)

    async def restore_tag(self, target: Target, caller: Caller, tag: Tag, digest: Digest | None = None) -> Digest:
        """Points the tag at what it named before, or at ``digest``, which it must have named once.

        Raises RegistryError NOT_FOUND without such an event, NOT_RESTORABLE where its manifest is gone.
        """

        async def body(tx: Transaction) -> Digest:
            repository_id = await self._repository(tx, target)
            current = await tags.find(tx, repository_id, str(tag))
            wanted = str(digest) if digest else await history.before(tx, repository_id, str(tag), current)
            if wanted is None or not await history.has_named(tx, repository_id, str(tag), wanted):
                raise RegistryError(ErrorCode.NOT_FOUND)
            if not await self._point(tx, repository_id, caller, str(tag), wanted):
                raise RegistryError(ErrorCode.NOT_RESTORABLE, {"tag": str(tag), "digest": wanted})
            return Digest(wanted)

        return await self._core.db.write(body)

    async def restore_image(self, target: Target, caller: Caller) -> Restored:
        """Brings back the tags that went with the image's latest deletion, as far as their manifests are there.

        Raises RegistryError NOT_FOUND where nothing was deleted, NOT_RESTORABLE where nothing is left.
        """

        async def body(tx: Transaction) -> Restored:
            repository_id = await self._repository(tx, target)
            outcome = Restored([], [])
            for name in await history.last_deleted(tx, repository_id):
                wanted = await history.before(tx, repository_id, name, None)
                back = wanted is not None and await self._point(tx, repository_id, caller, name, wanted)
                (outcome.restored if back else outcome.failed).append(name)
            if not outcome.restored:
                raise RegistryError(ErrorCode.NOT_RESTORABLE if outcome.failed else ErrorCode.NOT_FOUND)
            await audit.record_image(tx, caller.actor, AuditAction.IMAGE_RESTORE, repository_id)
            return outcome

        return await self._core.db.write(body)

    async def _repository(self, reader: Reader, target: Target) -> int:
        repository_id = await repositories.find(reader, target)
        if repository_id is None:
            raise RegistryError(ErrorCode.NOT_FOUND)
        return repository_id

    async def _point(self, tx: Transaction, repository_id: int, caller: Caller, tag: str, digest: str) -> bool:
        if await manifests.size_here(tx, repository_id, digest) is None:
            return False
        epoch, action = await clock.epoch(tx), AuditAction.TAG_RESTORE
        await tags.put(tx, repository_id, tag, digest, caller.actor, now=now_ms(), epoch=epoch, action=action)
        return True

    def _seconds(self, row: EventRow, floor: int) -> int | None:
        if not row.present or row.released_epoch is None:
            return None
        return max(0, row.released_epoch - floor + 1) * self._core.settings.epoch_seconds
