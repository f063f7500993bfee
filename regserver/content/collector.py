"""Mark and sweep, online: it never blocks a push and never needs to have seen the whole store at one moment.

Mark chooses what to try, from whatever it read; each step proves again, in its own transaction, that nothing holds
what it takes. Any number of collectors may run, and be killed between any two steps (docs/gc-proof.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TypeVar

from regserver.content.core import Core
from regserver.model.digest import Digest
from regserver.storage.blobs.port import StoredFile
from regserver.storage.catalog import clock, garbage, jobs, leases, manifests, repositories
from regserver.storage.catalog.lists import MANY
from regserver.storage.sql.patience import patiently
from regserver.storage.sql.port import Reader, Transaction

T = TypeVar("T")

BATCH = MANY  # rows in a transaction that pushes wait for; files that are unlinked in a row while clients wait
MANIFESTS = 10  # in a transaction: each takes some pages and many keys along
FILES = 500  # unlinked, and then their folders synced, which in the order of folders are few


@dataclass(frozen=True, slots=True)
class Progress:
    phase: str  # manifests, links, blobs, files
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Held:
    """A living lease: what it holds, and in at most how many seconds it will have ended."""

    image: str
    digest: str
    seconds: int


@dataclass(slots=True)
class Report:
    """``bytes_freed`` and ``blobs_deleted`` count what the disk got back for this collection, once."""

    manifests_deleted: int = 0
    links_dropped: int = 0
    blobs_deleted: int = 0
    bytes_freed: int = 0
    held: list[Held] = field(default_factory=list)


Listener = Callable[[Progress], Awaitable[None]]


async def _silent(_: Progress) -> None:
    return


class Collector:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def collect(
        self,
        registry_id: str,
        progress: Listener | None = None,
        *,
        job_id: str | None = None,
        patient: bool = False,
        loose: bool = True,
    ) -> Report:
        """Frees what nothing in this registry holds any more; blobs go when no registry links them.

        ``patient`` (the collection in the background) also waits out the undo window of deleted tags. ``loose``: looks
        for blobs to condemn even where no link has gone, as a run before may have dropped it. With a ``job_id`` what
        was taken is credited to that row of ``gc_jobs`` as it is taken, freed bytes by whichever collector unlinks
        them. ``progress`` is called after each batch, and ends the collection by raising.
        """
        tell, report = progress or _silent, Report()
        await self._expire_leases()
        report.manifests_deleted = await self._drop_manifests(registry_id, tell, job_id, patient=patient)
        report.links_dropped = await self._drop_links(registry_id, tell)
        if loose or report.links_dropped:
            await self.condemn(job_id, tell)
        blobs_reaped, bytes_reaped = await self.reap(tell)
        while job_id is not None and await garbage.waiting(self._core.db, job_id, await self._hold_floor()):
            await self.reap(tell)  # another collector was unlinking the same files and has not forgotten them yet
        if job_id is not None:
            report.bytes_freed, report.blobs_deleted = await garbage.credited(self._core.db, job_id)
        else:
            report.bytes_freed, report.blobs_deleted = bytes_reaped, blobs_reaped
        report.held = await self._held(registry_id)
        return report

    async def condemn(self, job_id: str | None = None, progress: Listener | None = None) -> int:
        """Blobs with no link and no lease in any registry: row out, key into the trash, in one transaction (L5)."""
        tell, after, count = progress or _silent, "", 0
        while True:
            limits = await floors(self._core, self._core.db, patient=False)

            async def look(reader: Reader, after: str = after, floor: int = limits.lease) -> list[str]:
                return await garbage.loose_blobs(reader, after, floor, BATCH)

            batch = await self._core.db.read(look)
            if not batch:
                return count

            began = time.monotonic()

            async def body(tx: Transaction, after: str = after, upto: str = batch[-1]) -> int:
                floor = (await floors(self._core, tx, patient=False)).lease
                return await garbage.condemn(tx, after, upto, floor, job_id)

            count += await self._write(body)
            after = batch[-1]
            await tell(Progress("blobs", count, count))
            await self._core.traffic.rest(began)

    async def reap(self, progress: Listener | None = None) -> tuple[int, int]:
        """Unlinks what the trash names, makes that durable, then forgets it (L6). Returns blobs and bytes given back.

        A crash between any two of the three repeats only what is harmless: the row stays until the file is gone.
        While a backup holds the trash it does nothing (L16).
        """
        tell, files, size = progress or _silent, 0, 0
        while batch := await garbage.trashed(self._core.db, self._files(), await self._hold_floor()):
            began = time.monotonic()
            given_back = await self._remove([(key, _digest(digest)) for key, digest in batch])
            await self._core.blobs.sync_removals()
            freed = {key: size for (key, _), size in zip(batch, given_back, strict=True)}
            sizes = await self._write(partial(garbage.forget, freed=freed))
            files, size = files + len(sizes), size + sum(sizes)
            await tell(Progress("files", files, files))
            await self._core.traffic.rest(began)
        return files, size

    def _files(self) -> int:
        return FILES // 5 if self._core.traffic.is_busy else FILES

    async def _remove(self, files: Sequence[tuple[str, Digest | None]]) -> list[int]:
        given_back: list[int] = []
        while rest := files[len(given_back) :]:
            began = time.monotonic()
            given_back += await self._core.blobs.remove(rest[:BATCH] if self._core.traffic.is_busy else rest)
            await self._core.traffic.rest(began)
        return given_back

    async def sweep(self) -> int:
        """Removes files that no table names (L7): left by a power cut between a commit and what should follow it.

        Names are listed first and asked for afterwards, all three tables in one statement, so that a key which an
        upload registers or moves meanwhile is never taken for an orphan. Returns how many went.
        """
        count = 0
        async for file in self.nameless():
            await self._core.blobs.remove([(file.key, file.digest)])
            count += 1
        await self._core.blobs.sync_removals()
        return count

    async def nameless(self) -> AsyncIterator[StoredFile]:
        """Files that no table names: whoever gets one may remove it at any time (L7)."""
        async for batch in _resting(self._core.blobs.scan()):
            for file in batch:
                if not await garbage.is_named(self._core.db, file.key):
                    yield file

    async def _write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        with patiently(self._core.traffic.is_busy):
            return await self._core.db.write(body)

    # -- the steps of one registry

    async def _drop_manifests(self, registry_id: str, tell: Listener, job_id: str | None, *, patient: bool) -> int:
        count, seen, after = 0, 0, (0, "")
        total = await self._core.db.read(partial(garbage.count_untagged, registry_id=registry_id))
        await tell(Progress("manifests", 0, total))  # before anything goes: from here on the job has begun
        while True:

            async def look(reader: Reader, after: tuple[int, str] = after) -> list[tuple[int, str]]:
                rows = await garbage.untagged_manifests(reader, registry_id, after, MANIFESTS)
                return [(row[0], row[1]) for row in rows]

            batch = await self._core.db.read(look)
            if not batch:
                return count
            began = time.monotonic()

            async def body(tx: Transaction, batch: list[tuple[int, str]] = batch) -> int:
                await self._core.hold_usage(tx, registry_id)
                limits = await floors(self._core, tx, patient=patient)
                dropped = await drop_manifests(tx, registry_id, batch, limits)
                if job_id is not None and dropped:
                    await jobs.credit_manifests(tx, job_id, dropped)
                return dropped

            count += await self._write(body)
            after, seen = batch[-1], seen + len(batch)
            await tell(Progress("manifests", seen, max(seen, total)))
            await self._core.traffic.rest(began)

    async def _drop_links(self, registry_id: str, tell: Listener) -> int:
        count, known = 0, await repositories.in_registry(self._core.db, registry_id)
        for place, repository_id in enumerate(known, 1):
            count += await self._drop_links_of(
                registry_id, repository_id, partial(tell, Progress("links", place, len(known)))
            )
        return count

    async def _drop_links_of(self, registry_id: str, repository_id: int, tell: Callable[[], Awaitable[None]]) -> int:
        count, after, more = 0, "", True
        while more:
            began = time.monotonic()

            async def body(tx: Transaction, after: str = after) -> list[str]:
                floor = (await floors(self._core, tx, patient=False)).lease
                unused = await garbage.unused_links(tx, repository_id, after, floor, BATCH)
                if unused:
                    await self._core.hold_usage(tx, registry_id)
                    await garbage.drop_unused(tx, repository_id, registry_id, after, unused[-1], floor)
                return unused

            dropped = await self._write(body)
            count, more = count + len(dropped), len(dropped) == BATCH
            after = dropped[-1] if dropped else after
            await tell()
            await self._core.traffic.rest(began)
        return count

    async def _hold_floor(self) -> int:
        return self._core.hold_floor(await clock.epoch(self._core.db))

    async def _expire_leases(self) -> None:
        async def body(tx: Transaction) -> None:
            await leases.expire(tx, (await floors(self._core, tx, patient=False)).lease)

        await self._write(body)

    async def _held(self, registry_id: str) -> list[Held]:
        epoch = await clock.epoch(self._core.db)
        floor, each = self._core.lease_floor(epoch), self._core.settings.epoch_seconds
        rows = await leases.held(self._core.db, registry_id, floor, 100)
        return [Held(image, digest, (taken - floor + 1) * each) for image, digest, taken in rows]


async def floors(core: Core, reader: Reader, *, patient: bool) -> garbage.Floors:
    """The oldest epochs that hold something now; a collection that a person asks for waits out no undo window."""
    epoch, settings = await clock.epoch(reader), core.settings
    return garbage.Floors(
        lease=core.lease_floor(epoch),
        untagged=epoch - core.epochs(settings.untagged_seconds),
        undo=epoch - core.epochs(settings.undo_seconds) if patient else epoch + 1,
    )


async def drop_manifests(
    tx: Transaction, registry_id: str, candidates: Sequence[tuple[int, str]], limits: garbage.Floors
) -> int:
    """Takes what is dead of up to BATCH manifests, in the order of (repository, digest); returns how many went.

    Most are kept by nothing at all: those go together.
    """
    dropped = 0
    for repository_id, group in groupby(candidates, key=lambda candidate: candidate[0]):
        digests = [digest for _, digest in group]
        lone = await garbage.lone_dead(tx, repository_id, digests, limits)
        dropped += await manifests.delete(tx, registry_id, repository_id, lone)
        for digest in sorted(set(digests) - set(lone)):
            dropped += await drop_manifest(tx, registry_id, repository_id, digest, limits)
    return dropped


async def drop_manifest(
    tx: Transaction, registry_id: str, repository_id: int, digest: str, limits: garbage.Floors
) -> int:
    """Takes a dead manifest together with everything above it; returns how many went.

    "Nothing points at it" would not do: an index may list its own subject. The closure of parents and subjects is
    what could keep it; where no member has a tag, a lease or a window, all of them are dead (L8).
    """
    if await manifests.size_here(tx, repository_id, digest) is None:
        return 0
    closure, waiting = {digest}, [digest]
    while waiting:
        member = waiting.pop()
        if await garbage.is_rooted(tx, repository_id, member, limits):
            return 0
        new = set(await garbage.keepers(tx, repository_id, member)) - closure
        closure |= new
        waiting.extend(new)
    return await manifests.delete(tx, registry_id, repository_id, sorted(closure))


async def _resting(batches: AsyncIterator[Sequence[StoredFile]]) -> AsyncIterator[Sequence[StoredFile]]:
    async for batch in batches:
        yield batch
        await asyncio.sleep(0)  # a large store is walked without holding up a request


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text else None
