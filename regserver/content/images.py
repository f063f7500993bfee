"""Images of a registry, as the management API shows and deletes them."""

from __future__ import annotations

from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Caller, Target
from regserver.model.audit import AuditAction
from regserver.model.names import Tag
from regserver.model.times import now_ms
from regserver.storage.catalog import audit, clock, images, pulls, repositories
from regserver.storage.catalog.images import ImageRow, ImageSort, NameFilter, TagRow, TagSort
from regserver.storage.sql.port import Reader, Transaction


class Images:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def page(
        self, registry_id: str, chosen: NameFilter, sort: ImageSort, limit: int, offset: int
    ) -> tuple[list[ImageRow], int]:
        """One page of the images that have a tag, and how many there are."""

        async def body(reader: Reader) -> tuple[list[ImageRow], int]:
            return await images.page(reader, registry_id, chosen, sort, limit, offset)

        return await self._core.db.read(body)

    async def tags(
        self, target: Target, chosen: NameFilter, sort: TagSort, limit: int, offset: int
    ) -> tuple[list[TagRow], int]:
        """One page of an image's tags, and how many there are. Raises RegistryError NOT_FOUND for an image without."""
        registry_id, image = target.registry_id, target.name.image

        async def body(reader: Reader) -> tuple[list[TagRow], int]:
            rows, total = await images.tags(reader, registry_id, image, chosen, sort, limit, offset)
            if not total and not await images.exists(reader, registry_id, image):
                raise RegistryError(ErrorCode.NOT_FOUND)
            return rows, total

        return await self._core.db.read(body)

    async def last_pulled(self, target: Target, tag: Tag | None = None) -> int | None:
        """When what a tag names, or anything of the image, was last fetched: milliseconds; None for never. It may lag
        behind by seconds."""

        async def body(reader: Reader) -> int | None:
            repository_id = await repositories.find(reader, target)
            return None if repository_id is None else await pulls.last(reader, repository_id, str(tag) if tag else None)

        return await self._core.db.read(body)

    async def delete(self, target: Target, caller: Caller) -> None:
        """Deletes all tags of an image at once. Raises RegistryError NOT_FOUND when there is none."""

        async def body(tx: Transaction) -> None:
            repository_id = await repositories.find(tx, target)
            if repository_id is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            epoch, subject = await clock.epoch(tx), caller.account.subject
            count = await images.untag_all(tx, repository_id, subject, now=now_ms(), epoch=epoch)
            if not count:
                raise RegistryError(ErrorCode.NOT_FOUND)
            action, detail = AuditAction.IMAGE_DELETE, f"tags deleted: {count}"
            await audit.record_image(tx, caller.actor, action, repository_id, detail=detail)

        await self._core.db.write(body)
