"""Rot is found, withdrawn and healed; what is sound is never withdrawn, whatever happens while it is read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regserver.content.pace import at_once
from regserver.content.scrub import START, Deed, FilesMissing, Finding, Scrubber
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.blobs.port import Pace, Rehashed, StoreFailed, Unreadable
from regserver.storage.catalog.scrub import Position, Rot
from regserver.storage.sql.port import Transaction
from support.memory_blobs import MemoryBlobStore
from support.store import Store, body, image, index, opened_store, pusher, target

HERE, THERE = target("my/api"), target("other/web")
LAYER = b"a layer that will rot"
DIGEST = Digest.of(LAYER)


class Bytes(MemoryBlobStore):
    """``meanwhile`` happens once, when a blob has been opened to be read; ``read`` answers in place of the store."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        self.answers: list[Rehashed | StoreFailed] = []

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, StoreFailed):
                raise answer
            return answer
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return await super().rehash(key, digest, pace)

    def flip(self, content: bytes, bit: int = 0) -> None:
        ((place, stored),) = [
            (place, old) for place, old in self.files.published.items() if place[1] == Digest.of(content)
        ]
        rotten = bytearray(stored)
        rotten[bit // 8] ^= 1 << (bit % 8)
        self.files.published[place] = bytes(rotten)

    def lose(self, content: bytes) -> bytes:
        (place,) = [place for place in self.files.published if place[1] == Digest.of(content)]
        return self.files.published.pop(place)


@pytest.fixture
def files() -> Bytes:
    return Bytes()


@pytest.fixture
async def store(tmp_path: Path, files: Bytes) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, files) as opened:
        yield opened


async def scrub(store: Store, **how: Any) -> list[Finding]:
    found: list[Finding] = []
    scrubber = Scrubber(store.core, store.collector, at_once, found.append, **how)
    await scrubber.measure()
    position: Position | None = START
    while position is not None:
        position = await scrubber.step(position)
    return found


async def push_to_both(store: Store) -> None:
    """The same image in two registries: one file for each blob."""
    await store.push_image(HERE, LAYER)
    await store.push_image(THERE, LAYER)
    await store.collector.reap()


async def refused(answer: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(RegistryError) as raised:
        await answer
    return raised.value.code


async def audited(store: Store, action: str) -> list[tuple[Any, ...]]:
    return await store.core.db.fetch(
        "SELECT registry, image, digest, detail FROM audit WHERE action = $1 ORDER BY registry", action
    )


async def test_a_sound_store_has_no_findings(store: Store) -> None:
    await store.push_image(HERE, LAYER)
    assert await scrub(store) == []
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


@pytest.mark.parametrize("bit", [0, len(LAYER) * 8 - 1])
async def test_one_flipped_bit_withdraws_the_blob_for_everybody_and_keeps_its_file(
    store: Store, files: Bytes, bit: int
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


async def test_a_withdrawn_blob_is_neither_mounted_nor_taken_into_a_manifest(store: Store, files: Bytes) -> None:
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    await scrub(store)
    elsewhere = target("my/other")
    assert await store.blobs.mount(elsewhere, pusher(), DIGEST, HERE) is None
    assert await store.blobs.mount(elsewhere, pusher(), DIGEST, None) is None
    pushed = store.push(HERE, image(LAYER, annotations={"another": "one"}), "v2")
    assert await refused(pushed) is ErrorCode.MANIFEST_BLOB_UNKNOWN


async def test_an_own_lease_does_not_bring_a_withdrawn_blob_back(store: Store, files: Bytes) -> None:
    for content in (b"{}", LAYER):
        await store.push_blob(HERE, content)
    await store.blobs.delete(HERE, pusher("two"), DIGEST)  # the link goes, the lease of session one stays
    files.flip(LAYER)
    await scrub(store)
    assert await refused(store.push(HERE, image(LAYER), "v1")) is ErrorCode.MANIFEST_BLOB_UNKNOWN


@pytest.mark.parametrize("fault", ["flipped", "cut", "grown", "missing"])
async def test_a_push_by_anybody_heals_the_blob_for_all_and_moves_no_counter(
    store: Store, files: Bytes, fault: str
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


async def test_a_blob_that_is_collected_while_it_is_read_is_no_finding(store: Store, files: Bytes) -> None:
    await store.push_blob(HERE, LAYER)
    await store.blobs.delete(HERE, pusher(), DIGEST)

    async def collect() -> None:
        await store.collector.collect("reg_my")

    files.meanwhile = collect
    assert await scrub(store) == []
    assert await store.counts() == {}


async def test_a_blob_that_is_collected_and_pushed_anew_while_it_is_read_stays(store: Store, files: Bytes) -> None:
    await store.push_blob(HERE, LAYER)
    await store.blobs.delete(HERE, pusher(), DIGEST)

    async def collect_and_push() -> None:
        await store.collector.collect("reg_my")
        await store.push_blob(HERE, LAYER)

    files.meanwhile = collect_and_push
    assert await scrub(store) == []
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_a_blob_that_is_healed_between_its_reading_and_its_mark_stays(store: Store, files: Bytes) -> None:
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


async def test_one_bad_reading_alone_withdraws_nothing(store: Store, files: Bytes) -> None:
    await store.push_blob(HERE, LAYER)
    files.answers = [Rehashed(Digest.of(b"memory at fault"), len(LAYER))]
    assert await scrub(store) == []


async def test_bytes_that_the_medium_has_lost_withdraw_the_blob_and_leave_its_file(store: Store, files: Bytes) -> None:
    await store.push_blob(HERE, LAYER)
    files.answers = [Unreadable("input/output error")] * 2
    found = await scrub(store)
    assert [(finding.fault, finding.deed) for finding in found] == [(Rot.UNREADABLE, Deed.QUARANTINED)]
    assert await refused(store.blobs.stat(HERE, pusher(), DIGEST)) is ErrorCode.BLOB_UNKNOWN
    assert [digest for _, digest in files.files.published] == [DIGEST]


async def test_a_store_that_fails_otherwise_says_nothing_about_its_blobs(store: Store, files: Bytes) -> None:
    await store.push_blob(HERE, LAYER)
    files.failures["rehash"] = StoreFailed("too many open files")
    with pytest.raises(StoreFailed):
        await scrub(store)
    assert await scrub(store) == []


async def test_a_disk_that_is_not_there_withdraws_nothing_unless_the_loss_is_accepted(
    store: Store, files: Bytes
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


async def test_a_blob_whose_file_is_put_back_is_served_again_after_the_next_scrub(store: Store, files: Bytes) -> None:
    await store.push_image(HERE, LAYER)
    (place,) = [place for place in files.files.published if place[1] == DIGEST]
    files.flip(LAYER)
    await scrub(store)
    assert [finding.deed for finding in await scrub(store)] == [Deed.KNOWN]
    files.files.published[place] = LAYER
    assert await scrub(store) == [Finding("blob", str(DIGEST), None, Deed.RELEASED, ("my/api",))]
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_a_withdrawn_blob_is_collected_with_its_file_and_counts_what_unlink_gave(
    store: Store, files: Bytes
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


async def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, files: Bytes) -> None:
    await store.push_image(HERE, LAYER)
    files.flip(LAYER)
    before = dict(files.files.published)
    assert [(finding.fault, finding.deed) for finding in await scrub(store, dry_run=True)] == [
        (Rot.DIGEST, Deed.NOTHING)
    ]
    assert files.files.published == before
    assert await store.blobs.stat(HERE, pusher(), DIGEST) == len(LAYER)


async def test_in_a_sparse_registry_a_manifest_pushed_meanwhile_keeps_the_blob_that_is_healed(tmp_path: Path) -> None:
    files = Bytes()
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


async def test_files_that_no_row_names_are_removed_and_named(store: Store, files: Bytes) -> None:
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


async def test_every_blob_and_manifest_is_read_once_over_many_steps(store: Store, files: Bytes) -> None:
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
