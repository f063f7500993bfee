"""Promises: what a client was told exists is there when its manifest comes (I3)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.sql.port import Transaction
from support.store import Store, image, index, opened_store, pusher, target

LAYER = b"a layer that two images share"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, lease_seconds=600) as opened:
        yield opened


async def delete_and_collect(store: Store, tag: str = "v1") -> int:
    await store.manifests.untag(target(), pusher("janitor"), Tag(tag))
    return (await store.collector.collect("reg_my")).blobs_deleted


async def test_a_blob_that_was_answered_for_outlives_its_image_until_the_manifest_comes(store: Store) -> None:
    await store.push_image(target(), LAYER)
    bob = pusher("bob")
    for content in (b"{}", LAYER):
        await store.blobs.stat(target(), bob, Digest.of(content))
    assert await delete_and_collect(store) == 0
    await store.push(target(), image(LAYER), "bobs", who=bob)
    assert await store.counts() == {"blobs": 2, "repository_blobs": 2, "manifests": 1, "manifest_blobs": 2, "tags": 1}


async def test_a_lease_that_has_ended_frees_the_blob(store: Store) -> None:
    await store.push_image(target(), LAYER)
    await store.blobs.stat(target(), pusher("bob"), Digest.of(LAYER))
    await store.pass_epochs(11)
    assert await delete_and_collect(store) == 1, "ten minutes are eleven epochs and an edge: the lease still lives"
    await store.pass_epochs(1)
    assert (await store.collector.collect("reg_my")).blobs_deleted == 1
    assert await store.counts() == {}


async def test_a_delete_and_a_collection_free_the_space_at_once(store: Store) -> None:
    await store.push_image(target(), LAYER)
    assert await delete_and_collect(store) == 2
    assert await store.counts() == {}
    assert await store.files() == 0


async def test_a_reader_without_push_is_promised_nothing(store: Store) -> None:
    await store.push_image(target(), LAYER)
    readable = target()
    reader = type(readable)(readable.registry_id, readable.name, frozenset())
    await store.blobs.stat(reader, pusher("eve"), Digest.of(LAYER))
    assert "blob_leases" not in await store.counts()


async def test_behind_one_shared_session_each_answer_counts(store: Store) -> None:
    basic = pusher("robot@127.0.0.1", shared=True)
    await store.push_image(target(), LAYER, who=basic)
    for _ in range(2):  # two pushers behind one address are told that the layer exists
        await store.blobs.stat(target(), basic, Digest.of(LAYER))
    await store.push_blob(target(), b"first", basic)
    await store.push(target(), image(LAYER, b"first"), "first", who=basic)
    for tag in ("v1", "first"):
        await store.manifests.untag(target(), pusher("janitor"), Tag(tag))
    await store.collector.collect("reg_my")
    assert await store.blobs.stat(target(), pusher("witness"), Digest.of(LAYER)) == len(LAYER)


async def test_a_repeated_put_of_a_session_of_its_own_leaves_no_lease(store: Store) -> None:
    """Mutant "a repeated PUT spends nothing": pushed twice, deleted, collected, and the space is back at once."""
    for session in ("first", "second"):
        await store.push_image(target(), LAYER, who=pusher(session))
    await store.collector.reap()  # the second copies
    assert await delete_and_collect(store) == 2
    assert await store.counts() == {}


async def test_a_put_by_digest_does_not_lean_on_somebody_elses_tag(store: Store) -> None:
    child = await store.push_image(target(), LAYER)
    await store.push(target(), child, who=pusher("bob"))
    await delete_and_collect(store)
    await store.push(target(), index(child), "all", who=pusher("bob"))
    assert (await store.counts())["manifests"] == 2


async def test_a_repeated_put_behind_a_shared_session_spends_nothing(store: Store) -> None:
    basic = pusher("robot@127.0.0.1", shared=True)
    manifest = await store.push_image(target(), LAYER, who=basic)
    await store.blobs.stat(target(), basic, Digest.of(LAYER))  # somebody else, behind the same address
    await store.push(target(), manifest, "v1", who=basic)
    assert (await store.counts())["blob_leases"] == 1


async def test_a_manifest_put_by_digest_waits_for_its_index(store: Store) -> None:
    for content in (b"{}", LAYER):
        await store.push_blob(target(), content)
    await store.push(target(), image(LAYER))
    await store.pass_epochs(100)  # the lease is over, the untagged window is not
    await store.collector.collect("reg_my")
    assert (await store.counts())["manifests"] == 1


async def test_never_tagged_manifests_go_after_their_window(store: Store) -> None:
    for content in (b"{}", LAYER):
        await store.push_blob(target(), content)
    await store.push(target(), image(LAYER))
    short = store.core.epochs(store.core.settings.untagged_seconds) + 1

    async def jump(tx: Transaction) -> None:
        await tx.execute("UPDATE clock SET epoch = epoch + $1", short)

    await store.core.db.write(jump)
    await store.collector.collect("reg_my")
    assert await store.counts() == {}


async def test_deleting_a_manifest_by_name_ends_the_promises_about_it(store: Store) -> None:
    manifest = await store.push_image(target(), LAYER)
    await store.manifests.stat(target(), pusher("bob"), Digest.of(manifest))
    assert (await store.counts())["manifest_leases"] == 1
    await store.manifests.delete(target(), pusher("janitor"), Digest.of(manifest))
    await store.collector.collect("reg_my")
    assert await store.counts() == {}


async def test_another_sessions_lease_does_not_let_a_manifest_link_a_blob(store: Store) -> None:
    """Mount through a stranger's lease would be CVE-2024-39897 again."""
    await store.push_image(target(), LAYER)
    await store.push_blob(target("other/web"), b"{}")
    with pytest.raises(RegistryError) as refused:
        await store.push(target("other/web"), image(LAYER), "stolen")
    assert refused.value.code is ErrorCode.MANIFEST_BLOB_UNKNOWN
    assert refused.value.detail == {"missing": [str(Digest.of(LAYER))]}


async def test_an_own_lease_links_a_blob_again_that_somebody_deleted(store: Store) -> None:
    await store.push_blob(target(), b"{}", pusher("alice"))
    await store.push_blob(target(), LAYER, pusher("alice"))
    await store.blobs.delete(target(), pusher("bob"), Digest.of(LAYER))
    await store.collector.collect("reg_my")
    await store.push(target(), image(LAYER), "v1", who=pusher("alice"))
    file = await store.blobs.open(target(), Digest.of(LAYER))
    os.close(file.fd)
    assert file.size == len(LAYER)
