"""A scrub: every blob and manifest is read and hashed again, rows and files are compared both ways.

It runs beside pushes, pulls and collections, in any number of processes, a step at a time; each step may be killed and
repeated. What it read decides nothing: ``quarantine`` looks at the row again in the transaction that marks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from regserver.content import quarantine
from regserver.content.collector import Collector, Progress
from regserver.content.core import Core
from regserver.model.digest import Digest
from regserver.storage.blobs.port import Pace, StoreFailed, Unreadable
from regserver.storage.catalog import counts, registries, scrub, usage
from regserver.storage.catalog.registries import Status
from regserver.storage.catalog.scrub import BlobRow, ManifestKey, Position, Rot, Tally
from regserver.storage.sql.port import Reader, Transaction

ROWS = 100  # in a step at most
STEP_BYTES = 256 * 2**20  # read in a step before it ends
IMAGES = 20  # named in a finding at most
TOO_MANY_MISSING = 10
LARGE = 64 * 2**10  # bytes; larger manifests are hashed off the event loop

START = Position("blobs", 0, "")


class Deed(StrEnum):
    """What was done about a finding."""

    QUARANTINED = "quarantined"
    KNOWN = "known"  # quarantined before, and not pushed again since
    RELEASED = "released"  # quarantined before, and sound now
    REMOVED = "removed"
    CORRECTED = "corrected"
    NOTHING = "nothing"  # a dry run


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: blob, manifest, file (that no row names), usage (the counter of a registry, or
    of a blob's links). ``fault``: a value of Rot,
    ``nameless`` or ``counter``; None for what is sound again. ``images`` as ``registry/image``."""

    kind: str
    name: str
    fault: str | None
    deed: Deed
    images: tuple[str, ...] = ()

    @property
    def is_damage(self) -> bool:
        """Is content gone that somebody may ask for?"""
        return self.kind in ("blob", "manifest") and self.deed is not Deed.RELEASED


class FilesMissing(StoreFailed):
    """So many files are not there that the disk is the likelier fault."""


class Scrubber:
    """One pass, from any position. ``dry_run`` changes nothing; ``accept_missing`` believes that all files are lost."""

    def __init__(
        self,
        core: Core,
        collector: Collector,
        pace: Pace,
        found: Callable[[Finding], None],
        tell: Callable[[Progress], None] = lambda _: None,
        *,
        dry_run: bool = False,
        accept_missing: bool = False,
        step_bytes: int = STEP_BYTES,
    ) -> None:
        self._core = core
        self._collector = collector
        self._pace = pace
        self._found = found
        self._tell = tell
        self._dry_run = dry_run
        self._accept_missing = accept_missing
        self._step_bytes = step_bytes
        self.tally = Tally()
        self.bytes_total = 0

    async def measure(self) -> int:
        """The bytes of all blobs, for the progress. Raises DatabaseFailed."""
        self.bytes_total = await self._core.db.read(scrub.total_bytes)
        return self.bytes_total

    async def step(self, position: Position) -> Position | None:
        """Goes on from there; returns where the next step does, None at the end of the pass.

        Raises DatabaseFailed; StoreFailed where the store cannot be read, which says nothing about what it holds;
        FilesMissing; whatever the pace raises.
        """
        match position.phase:
            case "blobs":
                return await self._blobs(position.after)
            case "manifests":
                return await self._manifests(ManifestKey(position.repository_id, position.after))
            case "files":
                await self._files()
                return Position("usage", 0, "")
            case _:
                await self._usage()
                return None

    # -- blobs

    async def _blobs(self, after: str) -> Position:
        judged: list[tuple[BlobRow, Rot | None]] = []
        rows, read = await scrub.blobs_behind(self._core.db, after, ROWS), 0
        for row in rows:
            judged.append((row, await self._judge(row)))
            read += row.size
            if read >= self._step_bytes:
                break
        self._refuse_a_missing_disk(judged)
        for row, rot in judged:
            await self._deal_with(row, rot)
        return Position("blobs", 0, judged[-1][0].digest) if judged else Position("manifests", 0, "")

    async def _judge(self, row: BlobRow) -> Rot | None:
        """A second reading decides; and what is missing must be missing while its key is still the blob's."""
        rot = await self._read(row)
        if rot is not None:
            rot = await self._read(row)
        self.tally = self.tally._replace(blobs=self.tally.blobs + 1)
        gone = rot is Rot.MISSING and await scrub.key_of(self._core.db, row.digest) != row.key
        return None if gone else rot

    async def _read(self, row: BlobRow) -> Rot | None:
        digest = Digest(row.digest)
        try:
            read = await self._core.blobs.rehash(row.key, digest, self._counted)
        except Unreadable:
            return Rot.UNREADABLE
        if read is None:
            return Rot.MISSING
        if read.size != row.size:
            return Rot.SIZE
        return None if read.digest == digest else Rot.DIGEST

    async def _counted(self, count: int) -> None:
        self.tally = self.tally._replace(bytes=self.tally.bytes + count)
        self._tell(Progress("blobs", self.tally.bytes, self.bytes_total))
        await self._pace(count)

    def _refuse_a_missing_disk(self, judged: list[tuple[BlobRow, Rot | None]]) -> None:
        unmarked = [rot for row, rot in judged if row.rotten is None]
        all_missing = len(unmarked) >= TOO_MANY_MISSING and all(rot is Rot.MISSING for rot in unmarked)
        if all_missing and not self._accept_missing:
            raise FilesMissing(
                f"not one of {len(unmarked)} blobs in a row has its file, so nothing was quarantined; mount the disk "
                "that holds blobs/, or if they are lost run: regserver scrub --accept-missing"
            )

    async def _deal_with(self, row: BlobRow, rot: Rot | None) -> None:
        """The row is looked at again by each transaction; a finding is told only when it held there."""
        digest, deed = Digest(row.digest), Deed.NOTHING
        if row.rotten is None and rot is None:
            return
        if rot is None:
            if not self._dry_run and not await quarantine.release(self._core, digest, row.key):
                return
            deed = Deed.NOTHING if self._dry_run else Deed.RELEASED
        elif row.rotten is not None:
            rot, deed = Rot(row.rotten) if rot is Rot.MISSING else rot, Deed.KNOWN
        elif not self._dry_run:
            if not await quarantine.mark(self._core, digest, row.key, rot):
                return
            deed = Deed.QUARANTINED
        if rot is not None and not self._dry_run:
            await quarantine.move(self._core, digest, row.key, rot)
        images = await scrub.images(self._core.db, row.digest, IMAGES)
        self._found(Finding("blob", row.digest, rot, deed, tuple(images)))

    # -- manifests

    async def _manifests(self, after: ManifestKey) -> Position:
        keys = await scrub.manifests_behind(self._core.db, after, ROWS)
        for key in keys:
            await self._manifest(key)
        return Position("manifests", *keys[-1]) if keys else Position("files", 0, "")

    async def _manifest(self, key: ManifestKey) -> None:
        async def body(reader: Reader) -> scrub.ManifestFacts | None:
            return await scrub.manifest(reader, key)

        facts = await self._core.db.read(body)
        if facts is None:
            return
        self.tally = self.tally._replace(
            manifests=self.tally.manifests + 1, bytes=self.tally.bytes + len(facts.content)
        )
        self._tell(Progress("manifests", self.tally.manifests, 0))
        if len(facts.content) > LARGE:
            whole = await asyncio.to_thread(quarantine.is_whole, key.digest, facts)
        else:
            whole = quarantine.is_whole(key.digest, facts)
        if not (whole and not facts.rotten):
            await self._deal_with_manifest(key, facts, whole=whole)
        await self._pace(len(facts.content))

    async def _deal_with_manifest(self, key: ManifestKey, facts: scrub.ManifestFacts, *, whole: bool) -> None:
        deed = Deed.NOTHING
        if not whole and facts.rotten:
            deed = Deed.KNOWN
        elif not self._dry_run:
            act = quarantine.release_manifest if whole else quarantine.mark_manifest
            if not await act(self._core, key):
                return
            deed = Deed.RELEASED if whole else Deed.QUARANTINED
        self._found(Finding("manifest", key.digest, None if whole else Rot.DIGEST, deed, (facts.image,)))

    # -- files and counters

    async def _files(self) -> None:
        count = 0
        async for file in self._collector.nameless():
            count += 1
            self._tell(Progress("files", count, 0))
            if not self._dry_run:
                await self._core.blobs.remove([(file.key, file.digest)])
            name = str(file.digest) if file.digest else f"upload {file.key}"
            self._found(Finding("file", name, "nameless", Deed.NOTHING if self._dry_run else Deed.REMOVED))
        await self._core.blobs.sync_removals()

    async def _usage(self) -> None:
        known = await registries.in_status(self._core.db, Status.ACTIVE)
        for place, registry_id in enumerate(known, 1):
            await self._count(registry_id)
            self._tell(Progress("usage", place, len(known)))
        await self._count_links()

    async def _count(self, registry_id: str) -> None:
        async def differs(reader: Reader) -> bool:
            if (await usage.read(reader, registry_id))[0] != await usage.recomputed(reader, registry_id):
                return True
            return await counts.wrong_links(reader, registry_id) > 0

        async def correct(tx: Transaction) -> None:
            await usage.correct(tx, registry_id)
            await counts.correct_links(tx, registry_id)

        if not await self._core.db.read(differs):
            return
        if not self._dry_run:
            await self._core.db.write(correct)
        self._found(Finding("usage", registry_id, "counter", Deed.NOTHING if self._dry_run else Deed.CORRECTED))

    async def _count_links(self) -> None:
        """How many links each blob has: a count too high would keep it for ever."""
        after = ""
        while wrong := await self._core.db.read(partial(counts.wrong_blobs, after=after, limit=ROWS)):
            after = wrong[-1]
            for digest in wrong:
                if not self._dry_run:
                    await self._core.db.write(partial(counts.correct_blob, digest=digest))
                self._found(Finding("usage", digest, "counter", Deed.NOTHING if self._dry_run else Deed.CORRECTED))
