"""What every blob store promises (regserver/storage/blobs/port.py), asked of each."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import BlobStore, StagingBusy, StagingGone, StoredFile, StoreFailed, Waiting
from support.memory_blobs import Files, MemoryBlobStore
from support.staging import SHA256, SHA512, append, digest_of, publish, read_blob, scanned, stage, store_blob

Restart = Callable[[], Awaitable[BlobStore]]


@pytest.fixture(params=["filesystem", "memory"])
async def restart(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restart]:
    """Each call opens the same bytes again, as a new process would."""
    stores: list[BlobStore] = []
    files = Files()

    async def opened() -> BlobStore:
        if request.param == "memory":
            stores.append(MemoryBlobStore(files))
        else:
            stores.append(await FilesystemBlobStore.at(tmp_path / "store"))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture
async def store(restart: Restart) -> BlobStore:
    return await restart()


# ---------------------------------------------------------------- staging


async def test_a_begun_upload_is_empty(store: BlobStore) -> None:
    key = new_secret()
    await store.begin(key, SHA256)
    assert await store.staged_size(key) == 0
    assert await digest_of(store, key) == Digest.of(b"")


async def test_a_key_is_not_begun_twice(store: BlobStore) -> None:
    key = await stage(store, b"kept")
    with pytest.raises(StoreFailed):
        await store.begin(key, SHA256)
    assert await digest_of(store, key) == Digest.of(b"kept")


@pytest.mark.parametrize("operation", ["resume", "staged_size"])
async def test_an_upload_that_was_never_begun_is_gone(store: BlobStore, operation: str) -> None:
    with pytest.raises(StagingGone):
        await (store.resume(new_secret(), SHA256) if operation == "resume" else store.staged_size(new_secret()))


async def test_parts_are_appended_in_order_and_counted(store: BlobStore) -> None:
    key = await stage(store)
    staged = await store.resume(key, SHA256)
    await staged.write([b"one ", b"", b"two "])
    assert staged.size == 8
    await staged.write([])
    await staged.write([b"three"])
    assert staged.size == 13 == await store.staged_size(key)
    assert await staged.digest(SHA256) == Digest.of(b"one two three")
    await staged.close()


@given(
    content=st.binary(max_size=300_000) | st.integers(70_000, 400_000).map(lambda size: b"regserver" * (size // 9)),
    cuts=st.lists(st.integers(0, 400_000), max_size=12),
    requests=st.lists(st.booleans(), min_size=13, max_size=13),
    algorithm=st.sampled_from(Algorithm),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_chunking_gives_the_same_digest(
    store: BlobStore, content: bytes, cuts: list[int], requests: list[bool], algorithm: Algorithm
) -> None:
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    chunks = [content[start:end] for start, end in itertools.pairwise(edges)]
    key = new_secret()
    await store.begin(key, algorithm)
    staged = await store.resume(key, algorithm)
    for chunk, in_a_new_request in zip(chunks, requests, strict=False):
        if in_a_new_request:
            await staged.close()
            staged = await store.resume(key, algorithm)
        await staged.write([chunk[:10], chunk[10:]])
    digest = await staged.digest(algorithm)
    assert digest == Digest.of(content, algorithm)
    await staged.publish(digest)
    await staged.close()
    assert await read_blob(store, key, digest) == content
    await store.remove([(key, digest)])


async def test_a_digest_may_be_asked_for_again_and_under_the_other_algorithm(store: BlobStore) -> None:
    key = await stage(store, b"half ")
    staged = await store.resume(key, SHA256)
    assert await staged.digest(SHA512) == Digest.of(b"half ", SHA512)
    await staged.write([b"whole"])
    assert await staged.digest(SHA256) == await staged.digest(SHA256) == Digest.of(b"half whole")
    assert await staged.digest(SHA512) == Digest.of(b"half whole", SHA512)
    await staged.close()


async def test_an_upload_has_one_writer(store: BlobStore) -> None:
    key = await stage(store, b"first")
    staged = await store.resume(key, SHA256)
    with pytest.raises(StagingBusy):
        await store.resume(key, SHA256)
    assert await store.staged_size(key) == 5  # looking is free
    await staged.close()
    await staged.close()
    assert await append(store, key, b" second") == 12
    assert await digest_of(store, key) == Digest.of(b"first second")


async def test_a_restart_goes_on_where_the_upload_stood(restart: Restart) -> None:
    first = await restart()
    key = await stage(first, b"before ", b"the ")
    second = await restart()
    assert await second.staged_size(key) == 11
    assert await append(second, key, b"restart") == 18
    assert await digest_of(second, key) == Digest.of(b"before the restart")
    # The first store's memory ends at an offset that is no longer the file's.
    assert await digest_of(first, key) == Digest.of(b"before the restart")


# ---------------------------------------------------------------- publishing and reading


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("content", [b"", b"a blob", os.urandom(200_000)], ids=["empty", "small", "large"])
async def test_a_published_blob_is_read_back_whole(store: BlobStore, content: bytes, algorithm: Algorithm) -> None:
    key, digest = await store_blob(store, content, algorithm)
    found = await store.open(key, digest)
    assert found is not None
    assert found.size == len(content)
    os.close(found.fd)
    assert await read_blob(store, key, digest) == content


async def test_a_published_blob_outlives_a_restart(restart: Restart) -> None:
    key, digest = await store_blob(await restart(), b"lasting")
    assert await read_blob(await restart(), key, digest) == b"lasting"


async def test_a_published_upload_is_staged_no_longer(store: BlobStore) -> None:
    key, _ = await store_blob(store, b"done")
    with pytest.raises(StagingGone):
        await store.staged_size(key)
    with pytest.raises(StagingGone):
        await store.resume(key, SHA256)


async def test_one_content_may_stand_under_two_keys(store: BlobStore) -> None:
    (one, digest), (two, _) = await store_blob(store, b"twice"), await store_blob(store, b"twice")
    assert await store.remove([(one, digest)]) == [5]
    assert await read_blob(store, one, digest) is None
    assert await read_blob(store, two, digest) == b"twice"


async def test_a_blob_is_found_only_under_its_own_key_and_digest(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"mine")
    assert await store.open(new_secret(), digest) is None
    assert await store.open(key, Digest.of(b"another's")) is None


async def test_staged_bytes_are_not_readable_as_a_blob(store: BlobStore) -> None:
    key = await stage(store, b"not yet")
    assert await store.open(key, Digest.of(b"not yet")) is None


async def test_publishing_what_was_removed_meanwhile_finds_it_gone(store: BlobStore) -> None:
    key = await stage(store, b"cancelled")
    staged = await store.resume(key, SHA256)
    assert await store.remove([(key, None)]) == [9]
    await staged.write([b" late"])
    with pytest.raises(StagingGone):
        await staged.publish(Digest.of(b"cancelled late"))
    await staged.close()
    assert await scanned(store) == set()


# ---------------------------------------------------------------- removing


async def test_an_open_blob_stays_readable_after_it_was_removed(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"still here")
    found = await store.open(key, digest)
    assert found is not None
    assert await store.remove([(key, digest)]) == [10]
    await store.sync_removals()
    assert await store.open(key, digest) is None
    assert os.pread(found.fd, found.size, 0) == b"still here"
    os.close(found.fd)


async def test_a_removal_without_the_digest_takes_the_staged_file(store: BlobStore) -> None:
    key = await stage(store, b"expired")
    assert await store.remove([(key, None)]) == [7]
    await store.sync_removals()
    with pytest.raises(StagingGone):
        await store.staged_size(key)


async def test_a_removal_with_the_digest_takes_the_file_wherever_it_stands(store: BlobStore) -> None:
    content, digest = b"either", Digest.of(b"either")
    staged, (published, _) = await stage(store, content), await store_blob(store, content)
    assert await store.remove([(staged, digest)]) == [6]
    assert await store.remove([(published, digest)]) == [6]
    assert await scanned(store) == set()


async def test_a_removal_without_the_digest_leaves_a_published_file_to_the_sweep(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"late twin")
    assert await store.remove([(key, None)]) == [0]
    assert await scanned(store) == {StoredFile(key, digest)}


async def test_removing_what_is_missing_gives_back_nothing(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"once")
    assert await store.remove([(key, digest)]) == [4]
    assert await store.remove([(key, digest)]) == [0]
    assert await store.remove([(new_secret(), None)]) == [0]
    await store.sync_removals()


# ---------------------------------------------------------------- scan, space, health


async def test_a_scan_meets_every_file_once(store: BlobStore) -> None:
    expected = {StoredFile(await stage(store, b"staged"), None)}
    for number in range(20):
        expected.add(StoredFile(*await store_blob(store, b"%d" % number, list(Algorithm)[number % 2])))
    met = [file async for batch in store.scan() for file in batch]
    assert len(met) == len(expected) == 21
    assert set(met) == expected


async def test_a_scan_of_nothing_yields_no_batch(store: BlobStore) -> None:
    assert [batch async for batch in store.scan()] == []


async def test_files_may_be_removed_while_a_scan_goes_on(store: BlobStore) -> None:
    for number in range(20):
        await store_blob(store, b"%d" % number)
    async for batch in store.scan():
        for file in batch:
            assert await store.remove([(file.key, file.digest)]) > [0]
    assert await scanned(store) == set()


async def test_a_healthy_store_passes_its_probe_and_leaves_nothing(store: BlobStore) -> None:
    await store.probe()
    assert await scanned(store) == set()
    assert await store.free_bytes() > 0


async def test_publish_takes_an_upload_that_came_in_two_requests(store: BlobStore) -> None:
    key = await stage(store, b"two ")
    await append(store, key, b"requests")
    await publish(store, key, Digest.of(b"two requests"))
    assert await read_blob(store, key, Digest.of(b"two requests")) == b"two requests"


async def test_what_waits_in_a_socket_is_appended_and_counted(store: BlobStore) -> None:
    content = os.urandom(150_000)
    key = await stage(store, b"before ")
    staged = await store.resume(key, SHA256)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        waiting = Waiting(ours.fileno(), 10)
        await staged.receive(waiting)
        assert (waiting.taken, waiting.dry, waiting.ended) == (0, True, False)
        theirs.sendall(content[:100_000])
        waiting = Waiting(ours.fileno(), 100_000)
        await staged.receive(waiting)
        assert (waiting.taken, waiting.ended, staged.size) == (100_000, False, 100_007)
        await staged.write([b" between "])
        theirs.sendall(content[100_000:])
        theirs.close()
        first = Waiting(ours.fileno(), 20_000)
        await staged.receive(first)
        assert (first.taken, staged.size) == (20_000, 120_016)
        rest = Waiting(ours.fileno(), 10**6)
        await staged.receive(rest)
        assert (rest.taken, rest.ended, rest.dry) == (30_000, True, False)
    whole = b"before " + content[:100_000] + b" between " + content[100_000:]
    assert staged.size == len(whole) == await store.staged_size(key)
    assert await staged.digest(SHA256) == Digest.of(whole)
    assert await staged.digest(SHA512) == Digest.of(whole, SHA512)
    await staged.publish(Digest.of(whole))
    await staged.close()
    assert await read_blob(store, key, Digest.of(whole)) == whole


class Bracketed:
    """What stands in brackets is the upload's."""

    def __init__(self) -> None:
        self.complete = False

    def decode(self, received: memoryview) -> list[memoryview]:
        text = bytes(received)
        self.complete = b"!" in text
        return [memoryview(part.partition(b"]")[0]) for part in text.split(b"[")[1:]]


async def test_a_framing_tells_an_uploads_bytes_from_the_others(store: BlobStore) -> None:
    key = await stage(store)
    staged = await store.resume(key, SHA256)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"x[one]y[two]z")
        waiting = Waiting(ours.fileno(), 1000, Bracketed())
        await staged.receive(waiting)
        assert (waiting.taken, waiting.dry, waiting.ended) == (6, True, False)
        theirs.sendall(b"[three]!")
        waiting = Waiting(ours.fileno(), 1000, Bracketed())
        await staged.receive(waiting)
        assert (waiting.taken, waiting.dry, waiting.ended) == (5, False, False)
        theirs.close()
        waiting = Waiting(ours.fileno(), 1000, Bracketed())
        await staged.receive(waiting)
        assert (waiting.taken, waiting.ended) == (0, True)
    assert await staged.digest(SHA256) == Digest.of(b"onetwothree")
    await staged.close()
