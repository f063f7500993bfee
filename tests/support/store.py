"""The rules without HTTP: a catalog in a temporary folder, bytes in memory, a clock that moves when told to."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regserver.config import Settings
from regserver.content.blobs import Blobs
from regserver.content.clock import Clock
from regserver.content.collector import Collector
from regserver.content.core import Core, Usage
from regserver.content.housekeeping import Housekeeping
from regserver.content.listing import Listing
from regserver.content.manifests import Manifests, PutManifest
from regserver.content.uploads import Uploads
from regserver.model import mediatypes
from regserver.model.access import Account, Action, Caller, Kind, Target
from regserver.model.digest import Digest
from regserver.model.names import RepositoryName, Tag
from regserver.storage.blobs.port import BlobStore
from regserver.storage.catalog import counts, usage
from regserver.storage.sql.migrate import Migratable, migrate
from regserver.storage.sql.port import Transaction
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.memory_blobs import MemoryBlobStore

TABLES = (
    "uploads",
    "trash",
    "blobs",
    "repository_blobs",
    "manifests",
    "manifest_blobs",
    "manifest_children",
    "missing_references",
    "tags",
    "blob_leases",
    "manifest_leases",
)


def pusher(session: str = "one", *, shared: bool = False, subject: str = "alice") -> Caller:
    """Somebody who may do everything; ``session`` is what owns the leases."""
    return Caller(Account(Kind.ADMIN, subject), session, shared)


async def body(*parts: bytes) -> AsyncGenerator[Sequence[bytes], None]:
    for part in parts:
        yield [part]


def descriptor(content: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def image(*layers: bytes, config: bytes = b"{}", **more: Any) -> bytes:
    """An OCI image manifest over these contents."""
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


def index(*children: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [descriptor(child, mediatypes.OCI_MANIFEST) for child in children],
        **more,
    }
    return json.dumps(document).encode()


@dataclass(slots=True)
class Store:
    core: Core
    uploads: Uploads
    blobs: Blobs
    manifests: Manifests
    listing: Listing
    collector: Collector
    housekeeping: Housekeeping
    now: int = 0

    async def pass_epochs(self, count: int) -> None:
        """Lets so many epochs go by."""
        clock = Clock(self.core, "a boot")
        await clock.tick(self.now)
        for _ in range(count):
            self.now += self.core.settings.epoch_seconds * 1000
            await clock.tick(self.now)

    async def registry(self, name: str, *, quota: int | None = None, public: bool = False) -> str:
        async def insert(tx: Transaction) -> None:
            await tx.execute(
                "INSERT INTO registries (id, name, status, public, quota_bytes, created_at, updated_at)"
                " VALUES ($1, $2, 'active', $3, $4, 0, 0) ON CONFLICT (id) DO NOTHING",
                f"reg_{name}",
                name,
                int(public),
                quota,
            )

        await self.core.db.write(insert)
        return f"reg_{name}"

    async def push_blob(self, target: Target, content: bytes, who: Caller | None = None) -> Usage:
        return await self.uploads.put(target, who or pusher(), Digest.of(content), body(content), len(content))

    async def push(self, target: Target, content: bytes, *tags: str, who: Caller | None = None) -> PutManifest:
        """A manifest; by its digest when no tag is given."""
        digest = None if tags else Digest.of(content)
        return await self.manifests.put(target, who or pusher(), digest, [Tag(tag) for tag in tags], content, None)

    async def push_image(self, target: Target, *layers: bytes, tag: str = "v1", who: Caller | None = None) -> bytes:
        """Blobs first, then the manifest; returns the manifest."""
        for content in (b"{}", *layers):
            await self.push_blob(target, content, who)
        await self.push(target, image(*layers), tag, who=who)
        return image(*layers)

    async def counts(self) -> dict[str, int]:
        """Rows per table that hold something."""
        found = {table: (await self.core.db.fetch(f"SELECT count(*) FROM {table}"))[0][0] for table in TABLES}
        return {table: count for table, count in found.items() if count}

    async def counter_error(self, registry_id: str) -> int:
        """I6: by how much the counters of a registry and of its images differ from what is counted anew."""
        used, _ = await usage.read(self.core.db, registry_id)
        error = abs(used - await usage.recomputed(self.core.db, registry_id))
        for _, tags, size, counted_tags, counted_size in await usage.recomputed_images(self.core.db, registry_id):
            error += abs(tags - counted_tags) + abs(size - counted_size)
        error += await counts.wrong_links(self.core.db, registry_id)
        error += len(await counts.wrong_blobs(self.core.db, "", 100))
        return error

    async def files(self) -> int:
        return sum([len(batch) async for batch in self.core.blobs.scan()])


def target(name: str = "my/api") -> Target:
    repository = RepositoryName.parse(name)
    return Target(f"reg_{repository.registry}", repository, frozenset(Action))


@asynccontextmanager
async def opened_store(
    folder: Path,
    blobs: BlobStore | None = None,
    *,
    now: int = 0,
    open_database: Callable[[], Awaitable[Migratable]] | None = None,
    **settings: Any,
) -> AsyncIterator[Store]:
    """A store with the registries ``my`` and ``other``; the same folder opened again is the same catalog.

    ``now``: what the clock reads, in milliseconds. Whoever opens again lets no time go by: a clock that is set back
    counts the same time twice. ``open_database`` is asked for the catalog instead, if there is one.
    """
    db = await (open_database() if open_database else SQLiteDatabase.open(folder / "catalog.db"))
    await migrate(db)
    core = Core(db, blobs or MemoryBlobStore(), Settings(root=folder, **settings))
    collector = Collector(core)
    clock = Clock(core, "a boot")
    store = Store(
        core,
        Uploads(core),
        Blobs(core),
        Manifests(core),
        Listing(core),
        collector,
        Housekeeping(core, collector, clock),
        now,
    )
    await store.pass_epochs(0)
    await store.registry("my")
    await store.registry("other")
    try:
        yield store
    finally:
        await db.close()
