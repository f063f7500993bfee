"""An image's figures are counters that change with what they count: after every kind of change they are exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.images import Images
from regserver.content.undo import Undo
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.catalog import registries
from regserver.storage.catalog.images import ImageSort, NameFilter
from regserver.storage.catalog.registries import RegistryFilter, RegistrySort
from support.store import Store, image, index, opened_store, pusher, target

API, WEB, OTHER = target("my/api"), target("my/web"), target("other/api")
SHARED = b"shared by all"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, lease_seconds=60) as opened:
        yield opened


async def shown(store: Store) -> dict[str, tuple[int, int]]:
    """(tags, bytes) of each image of ``my``, as the list has them."""
    rows, _ = await Images(store.core).page("reg_my", NameFilter(), ImageSort.NAME, 100, 0)
    return {row.name: (row.tag_count, row.size_bytes) for row in rows}


async def counted(store: Store) -> dict[str, int]:
    """How many images each registry has, as the list of registries has them."""
    page = await registries.page(store.core.db, RegistryFilter(), RegistrySort.IMAGE_COUNT_DESC, 100, 0)
    return {figures.row.name: figures.image_count for figures in page[0]}


async def exact(store: Store) -> bool:
    return [await store.counter_error(name) for name in ("reg_my", "reg_other")] == [0, 0]


async def test_a_push_counts_its_tag_and_every_byte_once(store: Store) -> None:
    manifest = await store.push_image(API, SHARED)
    await store.push(API, manifest, "latest")
    await store.push(API, manifest, "latest")
    assert await shown(store) == {"api": (2, len(manifest) + len(SHARED) + len(b"{}"))}
    assert await counted(store) == {"my": 1, "other": 0}
    assert await exact(store)


async def test_a_tag_that_moves_is_one_tag_still(store: Store) -> None:
    await store.push_image(API, b"old")
    await store.push_image(API, b"new")
    assert (await shown(store))["api"][0] == 1
    assert await exact(store)


async def test_a_mounted_blob_counts_for_the_image_that_it_came_to(store: Store) -> None:
    await store.push_image(API, SHARED)
    await store.push_image(WEB)
    before = (await shown(store))["web"][1]
    for _ in range(2):
        await store.blobs.mount(WEB, pusher(), Digest.of(SHARED), API)
    assert (await shown(store))["web"][1] == before + len(SHARED)
    await store.blobs.delete(WEB, pusher(), Digest.of(SHARED))
    assert (await shown(store))["web"][1] == before
    assert await exact(store)


async def test_an_image_without_a_tag_is_not_counted_and_comes_back_with_one(store: Store) -> None:
    manifest = await store.push_image(API, SHARED)
    await store.push(API, manifest, "latest")
    await store.manifests.untag(API, pusher(), Tag("v1"))
    assert (await shown(store))["api"][0] == 1
    await store.manifests.untag(API, pusher(), Tag("latest"))
    assert (await shown(store), await counted(store)) == ({}, {"my": 0, "other": 0})
    await Undo(store.core).restore_tag(API, pusher(), Tag("v1"))
    assert (await shown(store))["api"][0] == 1
    assert await exact(store)


async def test_all_tags_at_once_are_taken_off_and_put_back(store: Store) -> None:
    for tag in ("one", "two", "three"):
        await store.push_image(API, tag.encode(), tag=tag)
    await Images(store.core).delete(API, pusher())
    assert await shown(store) == {}
    assert await exact(store)
    await Undo(store.core).restore_image(API, pusher())
    assert (await shown(store))["api"][0] == 3
    assert await exact(store)


async def test_a_manifest_deleted_by_digest_takes_its_tags_and_its_bytes_off(store: Store) -> None:
    manifest = await store.push_image(API, SHARED)
    await store.push(API, manifest, "latest")
    await store.push_image(API, b"stays", tag="stays")
    await store.manifests.delete(API, pusher(), Digest.of(manifest))
    assert (await shown(store))["api"][0] == 1
    assert await exact(store)


async def test_a_collection_leaves_the_bytes_of_what_it_left(store: Store) -> None:
    kept = await store.push_image(API, SHARED, b"kept", tag="kept")
    gone = await store.push_image(API, SHARED, b"gone", tag="gone")
    await store.push(API, index(kept, gone), "both")
    await store.push_image(OTHER, SHARED)
    for tag in ("gone", "both"):
        await store.manifests.untag(API, pusher(), Tag(tag))
    await store.pass_epochs(10)
    await store.collector.collect("reg_my")
    size = len(kept) + len(SHARED) + len(b"kept") + len(b"{}")
    assert await shown(store) == {"api": (1, size)}
    assert await exact(store)


async def test_a_refused_push_leaves_the_figures_as_they_were(store: Store) -> None:
    await store.registry("small", quota=700)
    small = target("small/api")
    await store.push_image(small, b"x" * 100)
    with pytest.raises(Exception, match="quota"):
        await store.push(small, image(b"x" * 100, annotations={"a": "b" * 500}), "v2")
    assert await store.counter_error("reg_small") == 0
