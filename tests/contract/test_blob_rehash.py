"""What a blob store promises to a scrub: it reads what is stored, and puts aside what is asked."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.storage.blobs import reading
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import BlobStore, Rehashed, StoredFile, StoreFailed, Unreadable
from support.memory_blobs import MemoryBlobStore
from support.staging import read_blob, scanned, stage, store_blob


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
    store = await FilesystemBlobStore.at(tmp_path / "store")
    yield store
    await store.close()


@pytest.fixture(params=["filesystem", "memory"])
def store(request: pytest.FixtureRequest, disk: FilesystemBlobStore) -> BlobStore:
    return disk if request.param == "filesystem" else MemoryBlobStore()


async def at_once(_: int) -> None:
    return


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("content", [b"", b"a blob", os.urandom(3 * 2**20 + 1)], ids=["empty", "small", "large"])
async def test_a_blob_is_read_whole_and_every_byte_is_paced(
    store: BlobStore, content: bytes, algorithm: Algorithm
) -> None:
    key, digest = await store_blob(store, content, algorithm)
    paced: list[int] = []

    async def pace(count: int) -> None:
        paced.append(count)

    assert await store.rehash(key, digest, pace) == Rehashed(digest, len(content))
    assert sum(paced) == len(content)


async def test_what_is_not_published_is_not_read(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"mine")
    staged = await stage(store, b"staged")
    assert await store.rehash(new_secret(), digest, at_once) is None
    assert await store.rehash(key, Digest.of(b"another's"), at_once) is None
    assert await store.rehash(staged, Digest.of(b"staged"), at_once) is None


async def test_a_quarantined_blob_is_neither_opened_nor_read_but_met_and_removed(store: BlobStore) -> None:
    key, digest = await store_blob(store, b"rotten")
    other, _ = await store_blob(store, b"rotten")
    assert await store.quarantine(key, digest) is True
    assert await store.quarantine(key, digest) is False
    assert await read_blob(store, key, digest) is None
    assert await store.rehash(key, digest, at_once) is None
    assert await read_blob(store, other, digest) == b"rotten"
    assert await scanned(store) == {StoredFile(key, digest), StoredFile(other, digest)}
    assert await store.remove([(key, digest)]) == [6]
    await store.sync_removals()
    assert await scanned(store) == {StoredFile(other, digest)}


async def test_bytes_that_changed_on_disk_are_read_as_they_are(disk: FilesystemBlobStore, tmp_path: Path) -> None:
    key, digest = await store_blob(disk, b"a blob")
    (file,) = tmp_path.joinpath("store/blobs/sha256").glob(f"*/*.{key}")
    file.write_bytes(b"a blot!")
    assert await disk.rehash(key, digest, at_once) == Rehashed(Digest.of(b"a blot!"), 7)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, Unreadable), (errno.EUCLEAN, Unreadable), (errno.ENOMEM, StoreFailed), (errno.EMFILE, StoreFailed)],
)
@pytest.mark.parametrize("call", ["open", "preadv"])
async def test_only_the_loss_of_bytes_is_told_of_the_blob(
    disk: FilesystemBlobStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[StoreFailed]
) -> None:
    key, digest = await store_blob(disk, b"a blob")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number), "/a/path/that/nobody/may/see")

    monkeypatch.setattr(reading.os, call, fail)
    with pytest.raises(StoreFailed) as failed:
        await disk.rehash(key, digest, at_once)
    monkeypatch.undo()
    assert type(failed.value) is kind
    assert "path" not in str(failed.value)


async def test_a_reading_that_is_cancelled_gives_its_file_back(disk: FilesystemBlobStore) -> None:
    key, digest = await store_blob(disk, b"x" * (3 * 2**20))
    reached = asyncio.Event()

    async def hang(_: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    before = len(list(Path("/proc/self/fd").iterdir()))
    task = asyncio.create_task(disk.rehash(key, digest, hang))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(list(Path("/proc/self/fd").iterdir())) == before
