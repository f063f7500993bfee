"""Rot is found, withdrawn and healed; what is sound is never withdrawn, whatever happens while it is read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regserver.content.pace import at_once
from regserver.content.scrub import START, Deed, FilesMissing, Finding, Scrubber
from regserver.errors import ErrorCode
from regserver.model.access import Action
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.blobs.port import Rehashed, StoreFailed, Unreadable
from regserver.storage.catalog.scrub import Rot
from support.rot import RottingStore, audited, refused, scrub
from support.store import Store, image, index, opened_store, pusher, target

HERE, THERE = target("my/api"), target("other/web")
LAYER = b"a layer that will rot"
DIGEST = Digest.of(LAYER)


@pytest.fixture
def files() -> RottingStore:
    return RottingStore()


@pytest.fixture
async def store(tmp_path: Path, files: RottingStore) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, files) as opened:
        yield opened


async def push_to_both(store: Store) -> None:
    """The same image in two registries: one file for each blob."""
    await store.push_image(HERE, LAYER)
    await store.push_image(THERE, LAYER)
    await store.collector.reap()


async def test_a_sound_store_has_no_findings(store: Store) -> None:
    await store.push_image(HERE, LAYER)
    assert await scrub(store) == []
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


@pytest.mark.parametrize("bit", [0, len(LAYER) * 8 - 1])
async def test_one_flipped_bit_withdraws_the_blob_for_everybody_and_keeps_its_file(
    store: Store, files: RottingStore, bit: int
) -> None:
    await push_to_both(store)
    files.flip(LAYER, bit)
    images = ("my/api", "other/web")
    assert await scrub(store) == [Finding("blob", str(DIGEST), Rot.DIGEST, Deed.QUARANTINED, images)]
    for place in (HERE, THERE):
        assert await refused(store.blobs.stat(place, pusher(), DIGEST)) is ErrorCode.BLOB_UNKNOWN
        assert await refused(store.blobs.open(place, DIGEST)) is ErrorCode.BLOB_UNKNOWN
    assert [digest for _, digest in files.files.quarantined] == [DIGEST]
    assert await audited(store, "blob.quarantine") == [
        ("my", "api", str(DIGEST), "digest"),
        ("other", "web", str(DIGEST), "digest"),
    ]


async def test_a_withdrawn_blob_is_neither_mounted_nor_taken_into_a_manifest(store: Store, files: RottingStore) -> None:
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    await scrub(store)
    elsewhere = target("my/other")
    assert await store.blobs.mount(elsewhere, pusher(), DIGEST, HERE) is None
    assert await store.blobs.mount(elsewhere, pusher(), DIGEST, None) is None
    pushed = store.push(HERE, image(LAYER, annotations={"another": "one"}), "v2")
    assert await refused(pushed) is ErrorCode.MANIFEST_BLOB_UNKNOWN


async def test_an_own_lease_does_not_bring_a_withdrawn_blob_back(store: Store, files: RottingStore) -> None:
    for content in (b"{}", LAYER):
        await store.push_blob(HERE, content)
    await store.blobs.delete(HERE, pusher("two"), DIGEST)  # the link goes, the lease of session one stays
    files.flip(LAYER)
    await scrub(store)
    assert await refused(store.push(HERE, image(LAYER), "v1")) is ErrorCode.MANIFEST_BLOB_UNKNOWN


@pytest.mark.parametrize("fault", ["flipped", "cut", "grown", "missing"])
async def test_a_push_by_anybody_heals_the_blob_for_all_and_moves_no_counter(
    store: Store, files: RottingStore, fault: str
) -> None:
    await push_to_both(store)
    (place,) = [place for place in files.files.published if place[1] == DIGEST]
    if fault == "flipped":
        files.flip(LAYER)
    elif fault == "missing":
        files.lose(LAYER)
    else:
        files.files.published[place] = LAYER[:-1] if fault == "cut" else LAYER + b"!"
    kinds = {"flipped": Rot.DIGEST, "missing": Rot.MISSING, "cut": Rot.SIZE, "grown": Rot.SIZE}
    assert [finding.fault for finding in await scrub(store)] == [kinds[fault]]
    await store.push_blob(THERE, LAYER)
    for where in (HERE, THERE):
        file = await store.blobs.open(where, DIGEST)
        with open(file.fd, "rb") as stream:  # noqa: PTH123 - memory
            assert stream.read() == LAYER
    assert await scrub(store) == []
    assert [await store.counter_error(name) for name in ("reg_my", "reg_other")] == [0, 0]
    await store.collector.reap()
    assert await store.files() == (await store.counts())["blobs"] == 2  # config and layer, each once
    assert [row[:2] for row in await audited(store, "blob.heal")] == [("other", "web")]


async def test_a_blob_that_is_collected_while_it_is_read_is_no_finding(store: Store, files: RottingStore) -> None:
    await store.push_blob(HERE, LAYER)
    await store.blobs.delete(HERE, pusher(), DIGEST)

    async def collect() -> None:
        await store.collector.collect("reg_my")

    files.meanwhile = collect
    assert await scrub(store) == []
    assert await store.counts() == {}


async def test_a_blob_that_is_collected_and_pushed_anew_while_it_is_read_stays(
    store: Store, files: RottingStore
) -> None:
    await store.push_blob(HERE, LAYER)
    await store.blobs.delete(HERE, pusher(), DIGEST)

    async def collect_and_push() -> None:
        await store.collector.collect("reg_my")
        await store.push_blob(HERE, LAYER)

    files.meanwhile = collect_and_push
    assert await scrub(store) == []
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_a_blob_that_is_healed_between_its_reading_and_its_mark_stays(store: Store, files: RottingStore) -> None:
    """Two scrubbers: the other one has found it, and it has been pushed again, before this one marks."""
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    core = store.core

    class Delayed:
        """The catalog; before its first write, all that comes in between."""

        happened = False

        def __getattr__(self, name: str) -> Any:
            return getattr(core.db, name)

        async def write(self, work: Any) -> Any:
            if not self.happened:
                self.happened = True
                await scrub(store)
                await store.push_blob(HERE, LAYER)
            return await core.db.write(work)

    found: list[Finding] = []
    delayed = type(core)(Delayed(), core.blobs, core.settings)  # type: ignore[arg-type]
    await Scrubber(delayed, store.collector, at_once, found.append).step(START)
    assert found == []
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)
    assert await scrub(store) == []


async def test_one_bad_reading_alone_withdraws_nothing(store: Store, files: RottingStore) -> None:
    await store.push_blob(HERE, LAYER)
    files.answers = [Rehashed(Digest.of(b"memory at fault"), len(LAYER))]
    assert await scrub(store) == []


async def test_bytes_that_the_medium_has_lost_withdraw_the_blob_and_leave_its_file(
    store: Store, files: RottingStore
) -> None:
    await store.push_blob(HERE, LAYER)
    files.answers = [Unreadable("input/output error")] * 2
    found = await scrub(store)
    assert [(finding.fault, finding.deed) for finding in found] == [(Rot.UNREADABLE, Deed.QUARANTINED)]
    assert await refused(store.blobs.stat(HERE, pusher(), DIGEST)) is ErrorCode.BLOB_UNKNOWN
    assert [digest for _, digest in files.files.published] == [DIGEST]


async def test_a_store_that_fails_otherwise_says_nothing_about_its_blobs(store: Store, files: RottingStore) -> None:
    await store.push_blob(HERE, LAYER)
    files.failures["rehash"] = StoreFailed("too many open files")
    with pytest.raises(StoreFailed):
        await scrub(store)
    assert await scrub(store) == []


async def test_a_disk_that_is_not_there_withdraws_nothing_unless_the_loss_is_accepted(
    store: Store, files: RottingStore
) -> None:
    contents = [b"blob %d" % number for number in range(10)]
    for content in contents:
        await store.push_blob(HERE, content)
    kept, files.files.published = files.files.published, {}
    with pytest.raises(FilesMissing, match="mount"):
        await scrub(store)
    files.files.published = kept
    assert await scrub(store) == []
    files.files.published = {}
    found = await scrub(store, accept_missing=True)
    assert [(finding.fault, finding.deed) for finding in found] == [(Rot.MISSING, Deed.QUARANTINED)] * 10


async def test_a_blob_whose_file_is_put_back_is_served_again_after_the_next_scrub(
    store: Store, files: RottingStore
) -> None:
    await store.push_image(HERE, LAYER)
    (place,) = [place for place in files.files.published if place[1] == DIGEST]
    files.flip(LAYER)
    await scrub(store)
    assert [finding.deed for finding in await scrub(store)] == [Deed.KNOWN]
    files.files.published[place] = LAYER
    assert await scrub(store) == [Finding("blob", str(DIGEST), None, Deed.RELEASED, ("my/api",))]
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_a_withdrawn_blob_is_collected_with_its_file_and_counts_what_unlink_gave(
    store: Store, files: RottingStore
) -> None:
    await store.push_image(HERE, LAYER)
    (place,) = [place for place in files.files.published if place[1] == DIGEST]
    files.files.published[place] = LAYER[:5]
    await scrub(store)
    await store.manifests.delete(HERE, pusher(), Digest.of(image(LAYER)))
    report = await store.collector.collect("reg_my")
    assert (report.blobs_deleted, report.bytes_freed) == (2, 5 + len(b"{}"))
    assert await store.files() == 0
    assert await store.counter_error("reg_my") == 0


async def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, files: RottingStore) -> None:
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    before = dict(files.files.published)
    assert [(finding.fault, finding.deed) for finding in await scrub(store, dry_run=True)] == [
        (Rot.DIGEST, Deed.NOTHING)
    ]
    assert files.files.published == before
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_in_a_sparse_registry_a_manifest_pushed_meanwhile_keeps_the_blob_that_is_healed(tmp_path: Path) -> None:
    files = RottingStore()
    async with opened_store(tmp_path, files, allow_sparse=True) as store:
        await store.push_image(HERE, LAYER)
        files.flip(LAYER)
        await scrub(store)
        later = image(LAYER, annotations={"another": "one"})
        await store.push(HERE, later, "v2")
        await store.manifests.delete(HERE, pusher(), Digest.of(image(LAYER)))
        await store.push_blob(HERE, LAYER)
        await store.pass_epochs(1000)
        await store.collector.collect("reg_my")
        assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_who_may_push_is_not_told_that_an_image_is_there_while_a_layer_has_rotted(
    store: Store, files: RottingStore
) -> None:
    """crane and oras ask for the manifest first, and push nothing where it is there."""
    content = await store.push_image(HERE, LAYER)
    whole = index(content)
    await store.push(HERE, whole, "all")
    await store.push_image(THERE, b"another layer")
    files.flip(LAYER)
    await scrub(store)
    puller = replace(HERE, rights=frozenset({Action.PULL}))
    for reference in (Tag("v1"), Digest.of(content), Tag("all"), Digest.of(whole)):
        assert await refused(store.manifests.stat(HERE, pusher(), reference)) is ErrorCode.MANIFEST_UNKNOWN
        assert (await store.manifests.stat(puller, pusher(), reference)).size > 0
        assert (await store.manifests.get(HERE, pusher(), reference))[0].size > 0
    assert (await store.manifests.stat(THERE, pusher(), Tag("v1"))).size > 0
    await store.push_blob(HERE, LAYER)
    assert (await store.manifests.stat(HERE, pusher(), Tag("all"))).digest == Digest.of(whole)
