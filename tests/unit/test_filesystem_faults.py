"""The filesystem store on disks that fail, and the order of what it does on those that do not."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.model.digest import Digest
from regserver.storage.blobs import staging
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StagingBusy, StagingGone, StoreFailed
from support.disks import FailingDisk, RecordingDisk, ShortDisk, SlowDisk, name_of
from support.staging import SHA256, append, digest_of, publish, read_blob, stage, store_blob

BLOB = b"some bytes"
DIGEST = Digest.of(BLOB)


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


@pytest.fixture
async def store(tmp_path: Path, disk: FailingDisk) -> AsyncIterator[FilesystemBlobStore]:
    store = await FilesystemBlobStore.at(tmp_path, disk=disk)
    disk.effects.clear()
    yield store
    await store.close()


def synced(disk: RecordingDisk) -> list[str]:
    return [names[0] for effect, *names in disk.effects if effect == "sync"]


# ---------------------------------------------------------------- the order of effects


async def test_publish_syncs_bytes_before_the_name_and_the_name_before_it_answers(
    store: FilesystemBlobStore, disk: FailingDisk
) -> None:
    key = await stage(store, BLOB)
    disk.effects.clear()
    await publish(store, key, DIGEST)
    directory, name = DIGEST.hex[:2], f"{DIGEST.hex}.{key}"
    assert disk.effects == [
        ("mkdir", directory),
        ("sync", "sha256"),
        ("sync", key),
        ("rename", key, name),
        ("sync", directory),
    ]


async def test_a_long_upload_is_sent_on_to_the_disk_while_it_comes(
    store: FilesystemBlobStore, disk: FailingDisk
) -> None:
    key = await stage(store, b"some bytes of an earlier request")
    disk.effects.clear()
    staged = await store.resume(key, SHA256)
    for _ in range(17):
        await staged.write([bytes(2**20)])
    await staged.close()
    flushes = [effect for effect in disk.effects if effect[0] == "flush"]
    assert flushes == [("flush", key, "32", str(8 * 2**20)), ("flush", key, str(32 + 8 * 2**20), str(8 * 2**20))]


async def test_a_directory_is_made_durable_once(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    await store_blob(store, BLOB)
    key = await stage(store, BLOB)
    disk.effects.clear()
    await publish(store, key, DIGEST)
    assert [effect for effect, *_ in disk.effects] == ["sync", "rename", "sync"]


async def test_a_directory_left_by_a_process_that_died_is_synced_by_the_next(
    store: FilesystemBlobStore, tmp_path: Path, disk: FailingDisk
) -> None:
    (tmp_path / "blobs" / "sha256" / DIGEST.hex[:2]).mkdir()
    await store_blob(store, BLOB)
    assert synced(disk)[0] == "sha256"


async def test_opening_makes_every_directory_durable(tmp_path: Path) -> None:
    disk = RecordingDisk()
    await (await FilesystemBlobStore.at(tmp_path / "a" / "b", disk=disk)).close()
    made = [name for effect, *names in disk.effects if effect == "mkdir" for name in names]
    assert made == ["a", "b", "uploads", "blobs", "sha256", "sha512"]
    assert synced(disk) == [tmp_path.name, "a", "b", "b", "blobs", "blobs", "probe"]


async def test_removals_are_synced_when_asked(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    key, digest = await store_blob(store, BLOB)
    disk.effects.clear()
    await store.remove([(key, digest)])
    assert disk.effects[-1] == ("unlink", f"{digest.hex}.{key}")
    assert synced(disk) == []
    await store.sync_removals()
    assert sorted(synced(disk)) == sorted([digest.hex[:2], "uploads"])
    await store.sync_removals()
    assert len(synced(disk)) == 2


async def test_what_another_process_unlinked_is_synced_too(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    key, digest = await store_blob(store, BLOB)
    assert await store.remove([(key, digest)]) == [len(BLOB)]
    await store.sync_removals()
    disk.effects.clear()
    assert await store.remove([(key, digest)]) == [0]  # as found by whoever comes after a crash between unlink and sync
    await store.sync_removals()
    assert digest.hex[:2] in synced(disk)


# ---------------------------------------------------------------- syncs that fail


async def test_a_file_whose_sync_failed_is_given_up_and_nothing_is_synced_again(
    store: FilesystemBlobStore, disk: FailingDisk
) -> None:
    key, other = await stage(store, BLOB), await stage(store, BLOB)
    disk.fail["sync file"] = errno.EIO
    with pytest.raises(StoreFailed) as failure:
        await publish(store, key, DIGEST)
    assert failure.value.fatal
    assert not failure.value.full
    assert await store.open(key, DIGEST) is None
    with pytest.raises(StagingGone):
        await store.staged_size(key)
    disk.fail.clear()
    disk.effects.clear()
    await store.remove([(key, None)])
    for attempt in (publish(store, other, DIGEST), store.sync_removals(), store.probe()):
        with pytest.raises(StoreFailed) as again:
            await attempt
        assert again.value.fatal
    assert synced(disk) == []
    assert await store.staged_size(other) == len(BLOB)  # its bytes were never in doubt


async def test_a_sync_without_space_is_fatal_and_says_full(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    key = await stage(store, BLOB)
    disk.fail["sync file"] = errno.ENOSPC
    with pytest.raises(StoreFailed) as failure:
        await publish(store, key, DIGEST)
    assert (failure.value.full, failure.value.fatal) == (True, True)


async def test_a_failed_sync_of_the_directory_is_fatal(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    await store_blob(store, BLOB)
    key = await stage(store, BLOB)
    disk.fail["sync directory"] = errno.EIO
    with pytest.raises(StoreFailed) as failure:
        await publish(store, key, DIGEST)
    assert failure.value.fatal
    assert disk.effects[-1] == ("sync", DIGEST.hex[:2])
    with pytest.raises(StoreFailed) as again:
        await store_blob(store, b"another")
    assert again.value.fatal


async def test_a_failed_sync_of_a_removal_is_fatal_and_not_retried(
    store: FilesystemBlobStore, disk: FailingDisk
) -> None:
    key, digest = await store_blob(store, BLOB)
    await store.remove([(key, digest)])
    disk.fail["sync directory"] = errno.EIO
    disk.effects.clear()
    with pytest.raises(StoreFailed) as failure:
        await store.sync_removals()
    assert failure.value.fatal
    disk.fail.clear()
    await store.remove([(key, digest)])
    with pytest.raises(StoreFailed):
        await store.sync_removals()
    assert len(synced(disk)) == 1


async def test_a_probe_that_cannot_be_synced_fails_and_leaves_nothing(
    store: FilesystemBlobStore, tmp_path: Path, disk: FailingDisk
) -> None:
    disk.fail["sync file"] = errno.EIO
    with pytest.raises(StoreFailed):
        await store.probe()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "uploads"]


# ---------------------------------------------------------------- no space, short writes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("size", [1000, 200_000], ids=["in the loop", "in a thread"])
async def test_a_full_disk_leaves_the_size_that_was_really_written(tmp_path: Path, number: int, size: int) -> None:
    content = os.urandom(size)
    disk = ShortDisk()
    store = await FilesystemBlobStore.at(tmp_path, disk=disk)
    key = await stage(store, b"before ")
    staged = await store.resume(key, SHA256)
    disk.steps.extend([300, -number])
    with pytest.raises(StoreFailed) as failure:
        await staged.write([content[:200], content[200:]])
    assert (failure.value.full, failure.value.fatal) == (True, False)
    assert staged.size == 307 == await store.staged_size(key)
    assert await staged.digest(SHA256) == Digest.of(b"before " + content[:300])
    await staged.write([content[300:]])  # there is space again
    digest = await staged.digest(SHA256)
    assert digest == Digest.of(b"before " + content)
    await staged.publish(digest)
    await staged.close()
    assert await read_blob(store, key, digest) == b"before " + content
    await store.close()


async def test_short_writes_lose_and_repeat_nothing(tmp_path: Path) -> None:
    disk = ShortDisk()
    store = await FilesystemBlobStore.at(tmp_path, disk=disk)
    disk.steps.extend([1, 2, 3, 4, 5, 1, 1, 1, 10, 11])
    parts = [b"%d," % number for number in range(100)]
    key = await stage(store, *parts)
    assert not disk.steps
    assert await read_staged(tmp_path, key) == b"".join(parts)
    assert await digest_of(store, key) == Digest.of(b"".join(parts))
    await store.close()


async def test_more_parts_than_one_call_takes_are_written(store: FilesystemBlobStore, tmp_path: Path) -> None:
    parts = [b"%05d" % number for number in range(3 * staging.MAX_PARTS + 1)]
    key = await stage(store, *parts)
    assert await read_staged(tmp_path, key) == b"".join(parts)


async def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    store = await FilesystemBlobStore.at(tmp_path, disk=(disk := ShortDisk()))
    key = await stage(store)
    disk.steps.append(0)
    with pytest.raises(StoreFailed):
        await append(store, key, b"bytes")
    await store.close()


async def test_a_publish_without_space_for_the_name_may_be_tried_again(
    store: FilesystemBlobStore, disk: FailingDisk
) -> None:
    key = await stage(store, BLOB)
    disk.fail["rename"] = errno.ENOSPC
    with pytest.raises(StoreFailed) as failure:
        await publish(store, key, DIGEST)
    assert (failure.value.full, failure.value.fatal) == (True, False)
    disk.fail.clear()
    await publish(store, key, DIGEST)
    assert await read_blob(store, key, DIGEST) == BLOB


async def test_without_a_descriptor_for_the_directory_the_name_stays(
    store: FilesystemBlobStore, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    key = await stage(store, BLOB)
    disk.effects.clear()
    with monkeypatch.context() as patch:
        patch.setattr(staging, "open_directory", refuse)
        with pytest.raises(StoreFailed):
            await publish(store, key, DIGEST)
    assert "rename" not in {effect for effect, *_ in disk.effects}
    await publish(store, key, DIGEST)


@pytest.mark.parametrize("operation", ["rename", "sync file", "sync directory", "mkdir"])
async def test_no_failure_names_a_path(store: FilesystemBlobStore, disk: FailingDisk, operation: str) -> None:
    key = await stage(store, BLOB)
    disk.fail[operation] = errno.EACCES
    with pytest.raises(StoreFailed) as failure:
        await publish(store, key, DIGEST)
    assert "/" not in str(failure.value)
    assert failure.value.__cause__ is None


async def test_a_removal_that_is_refused_says_so(store: FilesystemBlobStore, disk: FailingDisk) -> None:
    key, digest = await store_blob(store, BLOB)
    disk.fail["unlink"] = errno.EACCES
    with pytest.raises(StoreFailed):
        await store.remove([(key, digest)])
    assert await read_blob(store, key, digest) == BLOB


# ---------------------------------------------------------------- opening


async def test_a_root_that_cannot_be_written_is_named_to_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match=str(tmp_path / "file" / "root")):
        await FilesystemBlobStore.at(tmp_path / "file" / "root")


@pytest.mark.parametrize("operation", ["mkdir", "sync directory", "sync file"])
async def test_a_root_that_refuses_is_named_to_the_operator(tmp_path: Path, disk: FailingDisk, operation: str) -> None:
    disk.fail[operation] = errno.EROFS
    with pytest.raises(StoreFailed, match=str(tmp_path)):
        await FilesystemBlobStore.at(tmp_path, disk=disk)


# ---------------------------------------------------------------- other writers, and requests cut short


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_process_holds_its_upload(store: FilesystemBlobStore, tmp_path: Path) -> None:
    key = await stage(store, BLOB)
    arguments = [sys.executable, "-c", HOLD, str(tmp_path / "uploads" / key)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StagingBusy):
            await store.resume(key, SHA256)
        holder.communicate()
    assert await append(store, key) == len(BLOB)


async def test_a_file_that_was_renamed_between_open_and_lock_is_gone(
    store: FilesystemBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await stage(store, BLOB)
    path, lock = tmp_path / "uploads" / key, fcntl.flock

    def lose(fd: int, how: int) -> None:
        path.rename(tmp_path / "taken")
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lose)
    before = open_descriptors()
    with pytest.raises(StagingGone):
        await store.resume(key, SHA256)
    assert open_descriptors() == before


async def test_a_cancelled_write_is_finished_before_its_file_is_closed(tmp_path: Path) -> None:
    store = await FilesystemBlobStore.at(tmp_path, disk=(disk := SlowDisk()))
    key = await stage(store)
    staged = await store.resume(key, SHA256)
    disk.slow = True
    write = asyncio.create_task(staged.write([os.urandom(200_000)]))
    await asyncio.to_thread(disk.begun.wait, 60)
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    assert write.cancelled()
    closing = asyncio.create_task(staged.close())
    await asyncio.sleep(0)
    closing.cancel()  # even if nobody waits for the closing any more
    await asyncio.gather(closing, return_exceptions=True)
    assert name_of(disk.fd) == key
    disk.go_on.set()
    await store.close()
    await asyncio.sleep(0)
    store = await FilesystemBlobStore.at(tmp_path)
    assert await append(store, key, b"x") == 200_001
    await store.close()


async def test_an_upload_removed_under_its_writer_gives_its_space_back(store: FilesystemBlobStore) -> None:
    key = await stage(store, BLOB)
    before = open_descriptors()
    staged = await store.resume(key, SHA256)
    await store.remove([(key, None)])
    await staged.close()
    await store.close()
    assert open_descriptors() == before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def read_staged(root: Path, key: str) -> bytes:
    return (root / "uploads" / key).read_bytes()
