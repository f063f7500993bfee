"""Saves the manifests beside the catalog from time to time, so that blobs are not all that is left if it is lost.

Not on the way of any request: pages are read in a snapshot's thread, encoded in another, and the copy is as old as the
last save. Order: tags are read before manifests, manifests before images, images before registries. So each name's
object was there when the name was read; what was deleted in between is left out when the copy is used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from regserver.content.core import Core
from regserver.model.ids import id_ms
from regserver.model.times import now_ms
from regserver.storage import saved as files
from regserver.storage.archives import ArchiveFailed
from regserver.storage.catalog import saved
from regserver.storage.saved import Line, Writer
from regserver.storage.sql.port import DatabaseFailed, Reader

K = TypeVar("K")
Row = TypeVar("Row")

log = logging.getLogger("regserver.saving")

FIRST_SECONDS, EVERY_SECONDS = 60.0, 600.0
_SHARE = 100  # a save may take one part of so many of all time
_SETTLED_MS = 60_000  # a line of the audit log is committed within that time of its id
_TAGS, _MANIFESTS = 2000, 200  # rows a page


class Saving:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._path: Path = core.settings.root / files.FILE
        self._saved: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Saves until ``stop``. What fails is logged and tried again; requests know nothing of it."""
        pause = FIRST_SECONDS
        while not await _stopped(stop, pause):
            begun = time.monotonic()
            try:
                await self.save_if_changed()
            except (ArchiveFailed, DatabaseFailed, OSError) as failed:
                log.warning("the copy of the manifests was not renewed: %s", failed)
            pause = max(EVERY_SECONDS, _SHARE * (time.monotonic() - begun))

    async def save_if_changed(self) -> bool:
        """Whether there was anything to save since the last time."""
        newest = await saved.newest(self._core.db)
        if newest == self._saved and self._path.exists():
            return False
        await self.save()
        self._saved = newest if newest and id_ms(newest) < now_ms() - _SETTLED_MS else None
        return True

    async def save(self) -> None:
        """Replaces the copy. Raises ArchiveFailed, DatabaseFailed, OSError; then the last one stays."""
        writer = Writer(self._path)
        try:
            async for lines in self._pages():
                await asyncio.to_thread(writer.add, lines)
            await asyncio.to_thread(writer.finish)
        except BaseException:
            writer.discard()
            raise

    async def _pages(self) -> AsyncIterator[list[Line]]:
        db, place = self._core.db, (0, "")
        while tags := await db.read(_page(saved.tags, place, _TAGS)):
            yield [["tag", *row] for row in tags]
            place = (tags[-1].repository_id, tags[-1].name)
        place = (0, "")
        while rows := await db.read(_page(saved.manifests, place, _MANIFESTS)):
            yield [["manifest", *row[:3], files.encode(row.content)] for row in rows]
            place = (rows[-1].repository_id, rows[-1].digest)
        after = 0
        while images := await db.read(_page(saved.images, after, _TAGS)):
            yield [["image", *row] for row in images]
            after = images[-1].repository_id
        name = ""
        while registries := await db.read(_page(saved.registries, name, _TAGS)):
            yield [["registry", *row] for row in registries]
            name = registries[-1].id


def _page(
    query: Callable[[Reader, K, int], Awaitable[list[Row]]], after: K, limit: int
) -> Callable[[Reader], Awaitable[list[Row]]]:
    return lambda reader: query(reader, after, limit)


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
