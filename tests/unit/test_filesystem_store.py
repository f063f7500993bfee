"""What only a store of files has: names, modes, foreign files, memory."""

from __future__ import annotations

import hashlib
import os
import stat
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StoredFile
from support.staging import SHA256, SHA512, append, digest_of, publish, read_blob, scanned, stage, store_blob

MIB = 2**20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
    store = await FilesystemBlobStore.at(tmp_path / "root")
    yield store
    await store.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


async def test_files_stand_where_the_layout_says(store: FilesystemBlobStore, root: Path) -> None:
    staged = await stage(store, b"staged")
    one, digest = await store_blob(store, b"published")
    two, long = await store_blob(store, b"published", SHA512)
    assert files(root) == {
        f"uploads/{staged}",
        f"blobs/sha256/{digest.hex[:2]}/{digest.hex}.{one}",
        f"blobs/sha512/{long.hex[:2]}/{long.hex}.{two}",
    }


async def test_only_the_owner_may_look(store: FilesystemBlobStore, root: Path) -> None:
    await stage(store, b"staged")
    await store_blob(store, b"published")
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


HOSTILE = ["", "..", "../../etc/passwd", "a" * 31, "A" * 32, "a" * 32 + "\n", "a" * 33, "٠" * 32, "a" * 31 + "/"]


@pytest.mark.parametrize("key", HOSTILE)
async def test_a_key_of_another_form_reaches_no_path(store: FilesystemBlobStore, root: Path, key: str) -> None:
    digest = Digest.of(b"")
    for call in (
        store.begin(key, SHA256),
        store.resume(key, SHA256),
        store.staged_size(key),
        store.open(key, digest),
        store.remove([(key, digest)]),
        store.remove([(key, None)]),
    ):
        with pytest.raises(ValueError):
            await call
    assert files(root) == set()


@pytest.mark.parametrize("text", ["sha256:../../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 128, "md5:/" + "a" * 64])
async def test_a_digest_of_another_form_reaches_no_path(store: FilesystemBlobStore, text: str) -> None:
    key = await stage(store, b"bytes")
    with pytest.raises(ValueError):
        await store.open(key, Digest(text))
    with pytest.raises(ValueError):
        await publish(store, key, Digest(text))
    assert await scanned(store) == {StoredFile(key, None)}


async def test_foreign_names_are_neither_reported_nor_touched(store: FilesystemBlobStore, root: Path) -> None:
    key, digest = await store_blob(store, b"ours")
    published = f"{digest.hex}.{new_secret()}"
    other = "00" if digest.hex[:2] != "00" else "01"
    foreign = [
        "uploads/lost+found",
        "uploads/" + "A" * 32,
        f"uploads/{published}",
        f"uploads/{key}.bak",
        f"blobs/sha256/{digest.hex[:2]}/{digest.hex}",
        f"blobs/sha256/{digest.hex[:2]}/{published}.tmp",
        f"blobs/sha256/{digest.hex[:2]}/.{published}",
        f"blobs/sha256/{digest.hex[:2]}/{digest.hex}0.{key}",
        f"blobs/sha256/{other}/{published}",
        f"blobs/sha512/{digest.hex[:2]}/{published}",
        f"blobs/sha256/{published}",
        f"blobs/md5/{digest.hex[:2]}/{published}",
    ]
    for name in foreign:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"theirs")
    (root / "uploads" / new_secret()).mkdir()
    (root / "uploads" / new_secret()).symlink_to(root / foreign[0])
    assert await scanned(store) == {StoredFile(key, digest)}
    async for batch in store.scan():
        for file in batch:
            await store.remove([(file.key, file.digest)])
    await store.probe()
    assert {name for name in files(root) if (root / name).is_file() and not (root / name).is_symlink()} == set(foreign)


async def test_links_are_not_followed(store: FilesystemBlobStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    key, digest = await store_blob(store, b"ours")
    blob = root / "blobs" / "sha256" / digest.hex[:2] / f"{digest.hex}.{key}"
    blob.unlink()
    blob.symlink_to(tmp_path / "secret")
    staged = new_secret()
    (root / "uploads" / staged).symlink_to(tmp_path / "secret")
    for call in (store.open(key, digest), store.resume(staged, SHA256)):
        with pytest.raises(Exception, match="symbolic links"):
            await call
    assert await store.remove([(key, digest)]) == [0]
    assert (tmp_path / "secret").read_bytes() == b"secret"


async def test_space_still_held_by_another_name_is_not_given_back(
    store: FilesystemBlobStore, root: Path, tmp_path: Path
) -> None:
    key = await stage(store, b"kept elsewhere")
    (tmp_path / "elsewhere").hardlink_to(root / "uploads" / key)
    assert await store.remove([(key, None)]) == [0]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets at which uploads are read again."""
    offsets: list[int] = []
    preadv = os.preadv

    def read(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        offsets.append(offset)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)
    return offsets


async def test_what_was_hashed_as_it_came_is_not_read_again(store: FilesystemBlobStore, reads: list[int]) -> None:
    key = await stage(store, b"first ", b"request ")
    await append(store, key, os.urandom(200_000))
    await digest_of(store, key)
    assert reads == []


async def test_the_oldest_hashes_are_forgotten_and_computed_again(tmp_path: Path, reads: list[int]) -> None:
    store = await FilesystemBlobStore.at(tmp_path, kept_hashes=2)
    keys = [await stage(store, b"upload %d " % number) for number in range(4)]
    for number, key in reversed(list(enumerate(keys))):
        assert await digest_of(store, key) == Digest.of(b"upload %d " % number)
    assert reads == [0, 0]
    await store.close()


async def test_bytes_of_another_process_are_hashed_too(store: FilesystemBlobStore, root: Path) -> None:
    key = await stage(store, b"ours ")
    with (root / "uploads" / key).open("ab") as file:
        file.write(b"theirs ")
    await append(store, key, b"ours again")
    assert await digest_of(store, key) == Digest.of(b"ours theirs ours again")


async def test_an_upload_under_another_algorithm_than_before_is_read_again(store: FilesystemBlobStore) -> None:
    key = await stage(store, b"bytes", algorithm=SHA256)
    await append(store, key, b" more", algorithm=SHA512)
    assert await digest_of(store, key, SHA512) == Digest.of(b"bytes more", SHA512)


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_reading_300_mib_again_keeps_memory_flat(
    store: FilesystemBlobStore, root: Path, algorithm: Algorithm
) -> None:
    key = await stage(store, algorithm=algorithm)
    os.truncate(root / "uploads" / key, 300 * MIB)
    expected = hashlib.new(algorithm.value)
    for _ in range(300):
        expected.update(bytes(MIB))
    tracemalloc.start()
    digest = await digest_of(store, key, algorithm)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest.hex == expected.hexdigest()
    assert peak < 4 * MIB


async def test_a_large_directory_is_scanned_in_bounded_batches(store: FilesystemBlobStore, root: Path) -> None:
    keys = {new_secret() for _ in range(1201)}
    for key in keys:
        (root / "uploads" / key).touch()
    batches = [batch async for batch in store.scan()]
    assert max(map(len, batches)) <= 500
    assert {file.key for batch in batches for file in batch} == keys


async def test_an_existing_root_is_taken_over_as_it_is(store: FilesystemBlobStore, root: Path) -> None:
    key, digest = await store_blob(store, b"old")
    root.chmod(0o750)
    second = await FilesystemBlobStore.at(root)
    assert await read_blob(second, key, digest) == b"old"
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    await second.close()
