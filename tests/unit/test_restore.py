"""Restoring: every byte is checked, nothing is there until all of it is, and a chain is a chain."""

import io
import random
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from regserver.content import restore as restoring
from regserver.content.restore import RestoreRefused, restore
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.archives import ArchiveFailed
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.sql.port import DatabaseFailed
from support.backups import back_up, checked, silent, tags
from support.store import Store, opened_store, pusher, target

API = target("my/api")
CONTENT = b"a layer whose bytes count " * 3000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    blobs = await FilesystemBlobStore.at(tmp_path / "store")
    async with opened_store(tmp_path / "store", blobs) as opened:
        yield opened
    await blobs.close()


@pytest.fixture
async def full(store: Store, tmp_path: Path) -> Path:
    """A backup that is not compressed, so that a flipped bit stays one."""
    await store.push_image(API, CONTENT, tag="v1")
    return (await back_up(store, tmp_path / "full.tar")).file


def fails(root: Path, *files: Path, match: str | None = None) -> None:
    """Restoring must not work, and must leave nothing where the root was to be."""
    before = set(root.parent.iterdir())
    with pytest.raises((ArchiveFailed, DatabaseFailed, RestoreRefused), match=match):
        restore(files, root, silent)
    assert set(root.parent.iterdir()) == before


def members(archive: Path) -> dict[str, tuple[int, int]]:
    """Where the bytes of each file are: offset and size."""
    with tarfile.open(archive, "r:") as tar:
        return {member.name: (member.offset_data, member.size) for member in tar}


def unpacked(content: bytes) -> bytes | None:
    try:
        return zstandard.ZstdDecompressor().stream_reader(content).read()
    except zstandard.ZstdError:
        return None


# ---- every byte counts


async def test_a_flipped_bit_in_any_file_of_the_archive_is_found(full: Path, tmp_path: Path) -> None:
    content = full.read_bytes()
    for name, (offset, size) in members(full).items():
        if name == "backup.json":
            continue
        for place in (offset, offset + size // 2, offset + size - 1):
            flipped = bytearray(content)
            flipped[place] ^= 1
            full.write_bytes(flipped)
            fails(tmp_path / "new", full, match="damaged")
    full.write_bytes(content)
    restore([full], tmp_path / "new", silent)


async def test_an_archive_that_is_cut_off_anywhere_is_found(full: Path, store: Store, tmp_path: Path) -> None:
    packed = (await back_up(store, tmp_path / "packed.tar.zst")).file
    for archive in (full, packed):
        content = archive.read_bytes()
        end = max(offset + size for offset, size in members(full).values()) if archive is full else len(content) - 64
        for place in sorted({0, 1, 100, 512, 600, 1024, *range(0, end, end // 40), end - 1}):
            archive.write_bytes(content[:place])
            fails(tmp_path / "new", archive)
        archive.write_bytes(content)


async def test_a_flipped_bit_in_a_compressed_archive_is_found(store: Store, tmp_path: Path) -> None:
    await store.push_image(API, random.Random(1).randbytes(100_000))
    packed = (await back_up(store, tmp_path / "packed.tar.zst")).file
    content = packed.read_bytes()
    found = 0
    for place in range(0, len(content), len(content) // 40):
        flipped = bytearray(content)
        flipped[place] ^= 16
        if unpacked(flipped) != unpacked(content):  # else the same bytes in other words
            packed.write_bytes(flipped)
            fails(tmp_path / "new", packed)
            found += 1
    assert found > 30


async def test_a_manifest_whose_bytes_changed_before_the_backup_is_found(store: Store, tmp_path: Path) -> None:
    await store.push_image(API, CONTENT)
    await store.core.db.write(lambda tx: tx.execute("UPDATE manifests SET content = $1", b"{}"))
    file = (await back_up(store, tmp_path / "backup.tar")).file
    fails(tmp_path / "new", file, match="manifest sha256")


@pytest.mark.parametrize(
    "name",
    ["../escaped", "/tmp/escaped", "keys/../../escaped.pem", "blobs/sha256/../../escaped", "blobs/sha256/aa", "other"],
)
async def test_a_name_that_no_backup_has_is_refused(full: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(full, "a") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"bad"))
    fails(tmp_path / "new", full, match="which no backup of this version has")


async def test_a_link_in_an_archive_is_refused(full: Path, tmp_path: Path) -> None:
    with tarfile.open(full, "a") as archive:
        entry = tarfile.TarInfo("admin-token")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    fails(tmp_path / "new", full, match="which no backup of this version has")


async def test_what_is_no_backup_is_said_to_be_none(tmp_path: Path) -> None:
    for content in (b"", b"no archive at all", b"\x28\xb5\x2f\xfdno zstd"):
        (tmp_path / "file.tar").write_bytes(content)
        fails(tmp_path / "new", tmp_path / "file.tar")
    with tarfile.open(tmp_path / "file.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("something"))
    fails(tmp_path / "new", tmp_path / "file.tar", match="which no backup")


# ---- all or nothing


async def test_a_root_that_holds_something_is_left_alone(full: Path, tmp_path: Path) -> None:
    root = tmp_path / "in-use"
    root.mkdir()
    root.joinpath("catalog.sqlite3").write_bytes(b"precious")
    fails(root, full, match="not empty")
    assert root.joinpath("catalog.sqlite3").read_bytes() == b"precious"


async def test_an_empty_folder_becomes_the_root(full: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    restore([full], tmp_path / "empty", silent)
    assert checked(tmp_path / "empty")
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700


async def test_a_root_that_is_taken_meanwhile_is_left_alone(full: Path, tmp_path: Path, monkeypatch) -> None:
    def somebody_starts_a_server(*_: object, **__: object) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "catalog.sqlite3").write_bytes(b"another")

    monkeypatch.setattr(restoring, "_check_damage", somebody_starts_a_server)
    with pytest.raises(OSError, match="not empty"):
        restore([full], tmp_path / "new", silent)
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"another"]


async def test_an_interrupted_restore_leaves_no_root(full: Path, tmp_path: Path) -> None:
    seen = []

    def interrupt(_: str, done: int, total: int) -> None:
        seen.append((tmp_path / "new").exists())
        if done > total // 2:
            raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        restore([full], tmp_path / "new", interrupt)
    assert set(tmp_path.iterdir()) == before
    assert not any(seen)


async def test_everything_is_durable_before_the_root_has_its_name(full: Path, tmp_path: Path, monkeypatch) -> None:
    synced: list[int] = []
    order: list[str] = []
    fsync, rename = restoring.os.fsync, Path.rename

    def noting_sync(fd: int) -> None:
        synced.append(restoring.os.fstat(fd).st_ino)
        order.append("sync")
        fsync(fd)

    def noting_rename(path: Path, target: Path) -> Path:
        found = {entry.stat().st_ino for entry in (path, *path.rglob("*"))}
        assert found <= set(synced), "every file and folder of it"
        order.append("rename")
        return rename(path, target)

    monkeypatch.setattr(restoring.os, "fsync", noting_sync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    restore([full], tmp_path / "new", silent)
    assert order[-2:] == ["rename", "sync"]
    assert synced[-1] == tmp_path.stat().st_ino, "the rename itself"


async def test_what_is_restored_is_its_owners_alone(full: Path, tmp_path: Path) -> None:
    restore([full], tmp_path / "new", silent)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "new", *(tmp_path / "new").rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


# ---- chains


@pytest.fixture
async def chain(full: Path, store: Store, tmp_path: Path) -> list[Path]:
    """Three backups: v1; then v2 beside it; then v1 is gone, v3 has come, and the blob of v1 was pushed once more."""
    await store.push_image(API, b"second", tag="v2")
    second = (await back_up(store, tmp_path / "second.tar.zst", full)).file
    await store.manifests.untag(API, pusher(), Tag("v1"))
    await store.collector.collect("reg_my")
    await store.push_image(API, b"third", CONTENT, tag="v3")
    return [full, second, (await back_up(store, tmp_path / "third.tar", second)).file]


async def test_a_backup_since_another_holds_only_what_is_new(chain: list[Path]) -> None:
    blobs = [{name for name in members(path) if name.startswith("blobs/")} for path in (chain[0], chain[2])]
    assert len(blobs[0]) == 2
    assert blobs[1] == {f"blobs/sha256/{Digest.of(b'third').hex}"}, "the digest counts: the blob of v1 is known"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_a_chain_restores_the_newest_state_in_whatever_order(chain, tmp_path: Path, order) -> None:
    restored = restore([chain[place] for place in order], tmp_path / "new", silent)
    assert set(tags(tmp_path / "new")) == {"v2", "v3"}
    assert checked(tmp_path / "new") == {str(Digest.of(content)) for content in (b"{}", b"second", b"third", CONTENT)}
    assert restored.blobs == 4


async def test_the_beginning_of_a_chain_is_a_state_too(chain: list[Path], tmp_path: Path) -> None:
    restore(chain[:2], tmp_path / "new", silent)
    assert set(tags(tmp_path / "new")) == {"v1", "v2"}


async def test_a_link_that_is_missing_is_named(chain: list[Path], tmp_path: Path) -> None:
    fails(tmp_path / "new", chain[0], chain[2], match="no chain")
    fails(tmp_path / "new", chain[2], match="name that one too")
    fails(tmp_path / "new", chain[1], chain[2], match="name that one too")
    fails(tmp_path / "new", chain[0], chain[0], match="the same backup")


async def test_a_backup_of_another_chain_is_refused(chain: list[Path], store: Store, tmp_path: Path) -> None:
    stranger = (await back_up(store, tmp_path / "stranger.tar")).file
    fails(tmp_path / "new", *chain, stranger, match="no chain")


async def test_a_damaged_catalog_is_no_ground_to_leave_blobs_out(full: Path, store: Store, tmp_path: Path) -> None:
    offset, size = members(full)["catalog.sqlite3"]
    content = bytearray(full.read_bytes())
    content[offset + size // 2] ^= 1
    full.write_bytes(content)
    with pytest.raises(ArchiveFailed, match="back up without --since"):
        await back_up(store, tmp_path / "next.tar", full)
    assert not (tmp_path / "next.tar").exists()
