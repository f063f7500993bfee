"""A scrub of what is not in blobs' files: manifests, files without a row, counters."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.scrub import START, Deed, Finding, Scrubber
from regserver.errors import ErrorCode
from regserver.model.access import Caller, Target
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog.scrub import Rot
from regserver.storage.sql.port import Transaction
from support.rot import RottingStore, audited, refused, scrub
from support.store import Store, body, index, opened_store, pusher, target

HERE = target("my/api")
LAYER = b"a layer"
DIGEST = Digest.of(LAYER)


@pytest.fixture
def files() -> RottingStore:
    return RottingStore()


@pytest.fixture
async def store(tmp_path: Path, files: RottingStore) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, files) as opened:
        yield opened


# ---------------------------------------------------------------- manifests


async def spoil(store: Store, content: bytes) -> None:
    async def write(tx: Transaction) -> None:
        changed = await tx.execute(
            "UPDATE manifests SET content = $2 WHERE digest = $1", str(Digest.of(content)), b"x" + content[1:]
        )
        assert changed > 0

    await store.core.db.write(write)


async def test_a_manifest_that_rotted_is_withdrawn_and_healed_by_its_push(store: Store) -> None:
    content = await store.push_image(HERE, LAYER)
    digest = Digest.of(content)
    await spoil(store, content)
    assert await scrub(store) == [Finding("manifest", str(digest), Rot.DIGEST, Deed.QUARANTINED, ("my/api",))]
    for reference in (digest, Tag("v1")):
        assert await refused(store.manifests.get(HERE, pusher(), reference)) is ErrorCode.MANIFEST_UNKNOWN
        assert await refused(store.manifests.stat(HERE, pusher(), reference)) is ErrorCode.MANIFEST_UNKNOWN
    assert [finding.deed for finding in await scrub(store)] == [Deed.KNOWN]
    await store.push(HERE, content, "v1")
    assert (await store.manifests.get(HERE, pusher(), Tag("v1")))[1] == content
    assert await scrub(store) == []
    assert await store.counter_error("reg_my") == 0
    assert [row[:2] for row in await audited(store, "manifest.heal")] == [("my", "api")]


async def test_an_index_does_not_take_a_child_that_rotted(store: Store) -> None:
    content = await store.push_image(HERE, LAYER)
    await spoil(store, content)
    await scrub(store)
    assert await refused(store.push(HERE, index(content), "all")) is ErrorCode.MANIFEST_BLOB_UNKNOWN
    await store.push(HERE, content)
    await store.push(HERE, index(content), "all")


async def test_a_manifest_whose_bytes_came_back_is_served_again(store: Store) -> None:
    content = await store.push_image(HERE, LAYER)
    await spoil(store, content)
    await scrub(store)

    async def restore(tx: Transaction) -> None:
        await tx.execute("UPDATE manifests SET content = $1", content)

    await store.core.db.write(restore)
    assert [finding.deed for finding in await scrub(store)] == [Deed.RELEASED]
    assert (await store.manifests.get(HERE, pusher(), Tag("v1")))[1] == content


async def test_a_manifest_that_rotted_can_be_deleted_and_is_collected(store: Store) -> None:
    content = await store.push_image(HERE, LAYER)
    await spoil(store, content)
    await scrub(store)
    await store.manifests.delete(HERE, pusher(), Digest.of(content))
    await store.collector.collect("reg_my")
    assert await store.counts() == {}


# ---------------------------------------------------------------- files and counters


async def test_files_that_no_row_names_are_removed_and_named(store: Store, files: RottingStore) -> None:
    await store.push_image(HERE, LAYER)
    files.files.published["0" * 32, Digest.of(b"lost")] = b"lost"
    files.files.quarantined["1" * 32, Digest.of(b"bad")] = b"bad"
    files.files.staged["2" * 32] = bytearray(b"half")
    dry = {(finding.kind, finding.name, finding.deed) for finding in await scrub(store, dry_run=True)}
    names = [str(Digest.of(b"lost")), str(Digest.of(b"bad")), f"upload {'2' * 32}"]
    assert dry == {("file", name, Deed.NOTHING) for name in names}
    assert await store.files() == 5
    assert {(finding.kind, finding.name, finding.deed) for finding in await scrub(store)} == {
        ("file", name, Deed.REMOVED) for name in names
    }
    assert await store.files() == 2


async def test_a_file_under_upload_is_left_alone(store: Store) -> None:
    started = await store.uploads.start(HERE, pusher(), DIGEST.algorithm)
    await store.uploads.append(HERE, pusher(), started.id, body(LAYER[:5]), None, None)
    assert await scrub(store) == []
    await store.uploads.finish(HERE, pusher(), started.id, DIGEST, body(LAYER[5:]))


async def test_a_counter_that_is_wrong_is_put_right(store: Store) -> None:
    await store.push_image(HERE, LAYER)

    async def spoil_counter(tx: Transaction) -> None:
        await tx.execute("UPDATE registries SET used_bytes = used_bytes + 7 WHERE id = 'reg_my'")

    await store.core.db.write(spoil_counter)
    assert await scrub(store, dry_run=True) == [Finding("usage", "reg_my", "counter", Deed.NOTHING)]
    assert await scrub(store) == [Finding("usage", "reg_my", "counter", Deed.CORRECTED)]
    assert await store.counter_error("reg_my") == 0


async def test_every_blob_and_manifest_is_read_once_over_many_steps(store: Store, files: RottingStore) -> None:
    contents = [b"blob %d" % number for number in range(250)]
    for content in contents:
        await store.push_blob(HERE, content)
    manifests = [await store.push_image(target(f"my/image{number}"), contents[number]) for number in range(120)]
    read: list[int] = []

    async def note(count: int) -> None:
        read.append(count)

    scrubber, position, steps = Scrubber(store.core, store.collector, note, lambda _: None), START, 0
    while (following := await scrubber.step(position)) is not None:
        position, steps = following, steps + 1
    assert scrubber.tally[:2] == (251, 120)
    assert scrubber.tally.bytes == sum(read) == sum(map(len, [*contents, b"{}", *manifests]))
    assert steps > 5


# ---------------------------------------------------------------- beside others, and cut off


async def test_a_file_that_was_marked_and_not_moved_is_moved_by_the_next_pass(
    store: Store, files: RottingStore
) -> None:
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    files.failures["quarantine"] = StoreFailed("input/output error")
    assert [finding.deed for finding in await scrub(store)] == [Deed.QUARANTINED]
    assert files.files.quarantined == {}
    assert await refused(store.blobs.stat(HERE, pusher(), DIGEST)) is ErrorCode.BLOB_UNKNOWN
    assert [finding.deed for finding in await scrub(store)] == [Deed.KNOWN]
    assert [digest for _, digest in files.files.quarantined] == [DIGEST]


CONTENTS = [b"content %d" % number * 50 for number in range(6)]


async def push_and_delete(store: Store, place: Target, who: Caller) -> None:
    for turn in range(12):
        for content in CONTENTS[turn % 3 :: 3]:
            await store.push_blob(place, content, who)
        for content in CONTENTS[turn % 3 :: 3]:
            await store.blobs.delete(place, who, Digest.of(content))


async def test_scrubs_beside_pushes_deletions_and_collections_find_nothing(tmp_path: Path) -> None:
    blobs = await FilesystemBlobStore.at(tmp_path / "store")
    async with opened_store(tmp_path, blobs) as store:
        working, found = True, []

        async def collect(_: int = 0) -> None:
            await store.collector.collect("reg_my")

        async def look() -> None:
            while working:
                found.extend(await scrub(store, collect))  # between two blobs of a step some of the others go

        beside = [asyncio.create_task(look()) for _ in range(3)]
        places = [(HERE, pusher("one")), (target("my/web"), pusher("two")), (target("other/x"), pusher("three"))]
        await asyncio.gather(*(push_and_delete(store, *place) for place in places))
        working = False
        await asyncio.gather(*beside)
        assert found == []
        await store.collector.collect("reg_my")
        assert await store.counts() == {}
        assert await store.files() == 0
    await blobs.close()
