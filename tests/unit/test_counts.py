"""What blobs and links count is exact after every change and chooses what a collection tries; a scrub puts it right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.collector import Collector
from regserver.content.purge import Purge
from regserver.content.scrub import Deed, Finding
from regserver.model.digest import Digest
from regserver.storage.catalog import registries
from regserver.storage.sql.port import Transaction
from support.rot import scrub
from support.store import Store, image, opened_store, pusher, target

API, WEB, OTHER = target("my/api"), target("my/web"), target("other/api")
SHARED = b"shared by some"
DIGEST = str(Digest.of(SHARED))
LINKS = """
SELECT p.registry_id, p.name, l.users, l.alone, b.links FROM blobs AS b
JOIN repository_blobs AS l ON l.digest = b.digest JOIN repositories AS p ON p.id = l.repository_id
WHERE b.digest = $1 ORDER BY p.registry_id, p.name
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, lease_seconds=60) as opened:
        yield opened


async def counted(store: Store) -> list[tuple[str, int, int, int]]:
    """(registry/image, users, alone, links of the blob) for each link of the shared blob."""
    assert [await store.counter_error(name) for name in ("reg_my", "reg_other")] == [0, 0]
    rows = await store.core.db.fetch(LINKS, DIGEST)
    return [(f"{registry}/{name}", *counts) for registry, name, *counts in rows]


async def test_a_link_knows_its_users_and_whether_it_is_the_only_one(store: Store) -> None:
    await store.push_blob(API, SHARED)
    assert await counted(store) == [("reg_my/api", 0, 1, 1)]
    await store.push_image(API, SHARED)
    await store.push(API, image(SHARED, annotations={"another": "one"}), "v2")
    assert await counted(store) == [("reg_my/api", 2, 1, 1)]
    await store.blobs.mount(OTHER, pusher(), Digest.of(SHARED), API)
    assert await counted(store) == [("reg_my/api", 2, 0, 2), ("reg_other/api", 0, 0, 2)]
    await store.blobs.mount(WEB, pusher(), Digest.of(SHARED), API)
    assert await counted(store) == [("reg_my/api", 2, 0, 3), ("reg_my/web", 0, 0, 3), ("reg_other/api", 0, 0, 3)]
    await store.blobs.delete(OTHER, pusher(), Digest.of(SHARED))
    await store.blobs.delete(WEB, pusher(), Digest.of(SHARED))
    assert await counted(store) == [("reg_my/api", 2, 1, 1)]
    await store.manifests.delete(API, pusher(), Digest.of(image(SHARED)))
    assert await counted(store) == [("reg_my/api", 1, 1, 1)]


async def test_the_purge_of_a_registry_leaves_the_other_alone_with_the_blob(store: Store) -> None:
    await store.push_image(API, SHARED)
    await store.push_image(OTHER, SHARED)
    assert [row[1:] for row in await counted(store)] == [(1, 0, 2), (1, 0, 2)]

    async def leave(tx: Transaction) -> None:
        await registries.mark_deleting(tx, "reg_other", 1)

    await store.core.db.write(leave)
    await Purge(store.core, store.collector).run_once()
    assert await counted(store) == [("reg_my/api", 1, 1, 1)]


async def test_a_count_that_is_too_high_keeps_a_blob_until_a_scrub_corrects_it(store: Store) -> None:
    await store.push_image(API, SHARED)
    await store.manifests.delete(API, pusher(), Digest.of(image(SHARED)))
    await store.pass_epochs(10)

    async def miscount(tx: Transaction) -> None:
        await tx.execute("UPDATE repository_blobs SET users = 7, alone = 0")
        await tx.execute("UPDATE blobs SET links = 7")

    await store.core.db.write(miscount)
    assert (await store.collector.collect("reg_my")).blobs_deleted == 0
    digests = sorted([DIGEST, str(Digest.of(b"{}"))])
    found = [finding for finding in await scrub(store) if finding.kind == "usage"]
    assert found == [Finding("usage", name, "counter", Deed.CORRECTED) for name in ("reg_my", *digests)]
    assert (await store.collector.collect("reg_my")).blobs_deleted == 2
    assert await store.files() == 0


async def test_a_count_that_is_too_low_never_costs_a_blob(store: Store) -> None:
    await store.push_image(API, SHARED)
    await store.pass_epochs(10)

    async def miscount(tx: Transaction) -> None:
        await tx.execute("UPDATE repository_blobs SET users = 0")
        await tx.execute("UPDATE blobs SET links = 0")

    await store.core.db.write(miscount)
    assert (await Collector(store.core).collect("reg_my")).blobs_deleted == 0
    assert await store.blobs.stat(API, pusher(), Digest.of(SHARED)) == len(SHARED)
