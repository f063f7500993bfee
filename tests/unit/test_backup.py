"""A backup: what it holds of a store that goes on, what it finds wrong, and who may read it."""

import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.backup import Backup, BackupRefused
from regserver.content.core import HOLD_SECONDS
from regserver.content.holding import held_trash
from regserver.content.restore import restore
from regserver.model.digest import Algorithm, Digest
from regserver.model.names import Tag
from regserver.storage import archives
from regserver.storage.archives import ArchiveFailed
from regserver.storage.catalog import copies, garbage
from regserver.storage.sql import copying
from regserver.storage.sql.statements import drive
from support.backups import Meddling, back_up, checked, query, silent, tags
from support.store import Store, opened_store, pusher, target

API = target("my/api")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    blobs = await Meddling.at(tmp_path / "store")
    async with opened_store(tmp_path / "store", blobs) as opened:
        yield opened
    await blobs.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backup.tar.zst"


async def lose(store: Store, tag: str) -> None:
    """Deletes a tag and collects: what only it held is condemned, and unlinked unless something holds the trash."""
    await store.manifests.untag(API, pusher(), Tag(tag))
    await store.collector.collect("reg_my")


def path_of(store: Store, content: bytes) -> Path:
    digest = Digest.of(content)
    (path,) = (store.core.settings.root / "blobs").rglob(f"{digest.hex}.*")
    return path


# ---- what it holds


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.zst"])
async def test_a_backup_brings_everything_back(store: Store, tmp_path: Path, name: str) -> None:
    manifest = await store.push_image(API, b"one", b"two" * 100_000, tag="v1")
    done = await back_up(store, tmp_path / name)
    assert (done.file, done.damaged) == (tmp_path / name, ())
    restored = restore([done.file], tmp_path / "new", silent)
    assert (restored.blobs, restored.manifests) == (3, 1)
    assert checked(tmp_path / "new") == {str(Digest.of(content)) for content in (b"{}", b"one", b"two" * 100_000)}
    assert tags(tmp_path / "new") == {"v1": str(Digest.of(manifest))}


async def test_a_blob_that_is_collected_while_the_backup_runs_is_in_it(
    store: Store, file: Path, tmp_path: Path
) -> None:
    await store.push_image(API, b"condemned while it is copied")
    gone = path_of(store, b"condemned while it is copied")
    store.core.blobs.meddle = lambda: lose(store, "v1")
    done = await back_up(store, file)
    assert done.damaged == ()
    restore([file], tmp_path / "new", silent)
    assert str(Digest.of(b"condemned while it is copied")) in checked(tmp_path / "new")
    assert gone.exists()
    await store.collector.reap()
    assert not gone.exists(), "the trash is emptied once the backup has ended"


async def test_a_blob_pushed_after_the_copy_is_not_in_the_backup(store: Store, file: Path, tmp_path: Path) -> None:
    await store.push_image(API, b"before", tag="v1")

    async def push() -> None:
        await store.push_image(API, b"after", tag="v2")

    store.core.blobs.meddle = push
    await back_up(store, file)
    restore([file], tmp_path / "new", silent)
    assert set(tags(tmp_path / "new")) == {"v1"}
    assert str(Digest.of(b"after")) not in checked(tmp_path / "new")


async def test_uploads_trash_and_holds_are_left_out(store: Store, file: Path, tmp_path: Path) -> None:
    await store.push_image(API, b"stays")
    await store.uploads.start(API, pusher(), Algorithm.SHA256)
    await store.core.db.write(lambda tx: garbage.trash(tx, "0" * 32, None))
    await back_up(store, file)
    restore([file], tmp_path / "new", silent)
    for table in ("uploads", "trash", "trash_holds"):
        assert query(tmp_path / "new", f"SELECT count(*) FROM {table}") == [(0,)]
    assert await store.core.db.fetch("SELECT count(*) FROM uploads") == [(1,)], "the catalog itself is as it was"


async def test_a_copy_ends_although_others_write_at_every_step(store: Store, tmp_path: Path, monkeypatch) -> None:
    await store.push_image(API, *(b"layer %d" % number for number in range(50)))
    monkeypatch.setattr(copying, "PAGES", 4)
    steps = []

    def write_meanwhile(done: int, total: int) -> None:
        steps.append((done, total))
        with copying.changing(store.core.settings.root / "catalog.db") as other:
            drive(garbage.trash(other, f"{len(steps):032x}", None))

    copying.copy(store.core.settings.root / "catalog.db", tmp_path / "copy", write_meanwhile)
    assert len(steps) > 5
    assert [done for done, _ in steps] == sorted(done for done, _ in steps), "it never began again"
    copying.verify(tmp_path / "copy")
    with copying.reading(tmp_path / "copy") as copy:
        assert await copy.fetch("SELECT count(*) FROM trash") == [(0,)], "one state, that of its beginning"


# ---- the hold


async def test_a_hold_that_nobody_renews_ends(store: Store) -> None:
    await store.push_image(API, b"garbage")
    gone = path_of(store, b"garbage")
    async with held_trash(store.core.db):
        await store.core.db.write(lambda tx: tx.execute("UPDATE trash_holds SET id = 'of one who died'"))
        await lose(store, "v1")
    await store.pass_epochs(store.core.epochs(HOLD_SECONDS))
    assert (await store.housekeeping.expire_holds(), await store.collector.reap()) == (0, (0, 0))
    assert gone.exists()
    await store.pass_epochs(1)
    assert await store.housekeeping.expire_holds() == 1
    await store.collector.reap()
    assert not gone.exists()
    assert await store.core.db.fetch("SELECT * FROM trash_holds") == []


async def test_a_collection_ends_while_the_trash_is_held_and_is_credited_later(store: Store) -> None:
    await store.push_image(API, b"12345")
    async with held_trash(store.core.db):
        await store.manifests.untag(API, pusher(), Tag("v1"))
        await store.core.db.write(
            lambda tx: tx.execute(
                "INSERT INTO gc_jobs (id, registry_id, status, phase, started_at)"
                " VALUES ('gc_1', 'reg_my', 'running', '', 0)"
            )
        )
        report = await store.collector.collect("reg_my", job_id="gc_1")
        assert (report.blobs_deleted, report.bytes_freed) == (0, 0)
    await store.collector.reap()
    assert await garbage.credited(store.core.db, "gc_1") == (len(b"12345") + len(b"{}"), 2)


# ---- what is wrong


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"x" * path.stat().st_size),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.unlink(),
    ],
    ids=["other bytes", "too short", "too long", "missing"],
)
async def test_damage_is_named_and_the_file_is_not_made(store: Store, file: Path, tmp_path: Path, spoil) -> None:
    await store.push_image(API, b"is damaged", b"is sound")
    spoil(path_of(store, b"is damaged"))
    done = await back_up(store, file)
    assert done.damaged == (str(Digest.of(b"is damaged")),)
    assert not file.exists()
    assert done.file == file.with_name("damaged-backup.tar.zst")
    with pytest.raises(ArchiveFailed, match=r"is damaged|damaged there"):
        restore([done.file], tmp_path / "new", silent)
    assert not (tmp_path / "new").exists()
    with pytest.raises(BackupRefused, match="lacks blobs"):
        await back_up(store, file, done.file)
    restored = restore([done.file], tmp_path / "new", silent, allow_damaged=True)
    assert (restored.damaged, restored.blobs) == ([str(Digest.of(b"is damaged"))], 2)


async def test_a_damaged_catalog_is_not_backed_up(store: Store, file: Path, tmp_path: Path, monkeypatch) -> None:
    await store.push_image(API, b"layer")

    def break_it(source: Path, target: Path, tell) -> None:
        whole(source, target, tell)
        content = bytearray(target.read_bytes())
        content[4096 * 20 : 4096 * 24] = bytes(4096 * 4)
        target.write_bytes(content)

    whole = copying.copy
    monkeypatch.setattr(copying, "copy", break_it)
    with pytest.raises(Exception, match=r"damaged|malformed"):
        await back_up(store, file)
    assert list(tmp_path.glob("*backup*")) == []


async def test_a_missing_signing_key_is_an_error(store: Store, file: Path) -> None:
    await store.core.db.write(
        lambda tx: tx.execute("INSERT INTO installation (name, value) VALUES ('active_key', 'key_1')")
    )
    with pytest.raises(ArchiveFailed, match="key_1"):
        await back_up(store, file)
    assert not file.exists()


async def test_a_backup_that_fails_leaves_nothing_and_releases_the_trash(store: Store, file: Path, tmp_path) -> None:
    await store.push_image(API, b"layer")

    def interrupt(phase: str, _: int, __: int) -> None:
        if phase == "blobs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Backup(store.core, store.core.settings.root / "catalog.db", interrupt).write(file)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert await store.core.db.fetch("SELECT * FROM trash_holds") == []


# ---- files


async def test_only_its_owner_may_read_a_backup_and_what_it_is_made_of(
    store: Store, file: Path, tmp_path: Path
) -> None:
    await store.push_image(API, b"layer")
    seen = {}

    async def look() -> None:
        seen.update({path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*backup*")})

    store.core.blobs.meddle = look
    await back_up(store, file)
    assert seen == {"backup.tar.zst.partial": 0o600, ".backup.tar.zst.work": 0o700}
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("*backup*")} == {file.name: 0o600}


async def test_an_existing_file_is_never_replaced(store: Store, file: Path) -> None:
    file.write_bytes(b"last week's")
    with pytest.raises(BackupRefused, match="exists"):
        await back_up(store, file)
    assert file.read_bytes() == b"last week's"


async def test_a_name_says_how_it_is_compressed(store: Store, tmp_path: Path) -> None:
    for name in ("backup", "backup.tar.gz", ".tar", ".tar.zst"):
        with pytest.raises(BackupRefused, match=r"\.tar\.zst"):
            await back_up(store, tmp_path / name)


async def test_two_backups_into_one_file_are_one_too_many(store: Store, file: Path) -> None:
    await store.push_image(API, b"layer")

    async def second() -> None:
        with pytest.raises(ArchiveFailed, match="another backup"):
            await back_up(store, file)

    store.core.blobs.meddle = second
    await back_up(store, file)
    assert archives.read_header(file).blobs == 2


async def test_a_backup_goes_on_where_a_killed_one_left_its_files(store: Store, file: Path) -> None:
    await store.push_image(API, b"layer")
    file.with_name("backup.tar.zst.partial").write_bytes(b"half" * 100_000)
    file.with_name(".backup.tar.zst.work").mkdir()
    file.with_name(".backup.tar.zst.work").joinpath("catalog.sqlite3").write_bytes(b"half")
    await back_up(store, file)
    assert [path.name for path in file.parent.glob("*backup*")] == [file.name]


async def test_plain_tar_and_sha256sum_understand_it(store: Store, tmp_path: Path) -> None:
    await store.push_image(API, b"layer")
    await back_up(store, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar", "r:") as archive:
        names = archive.getnames()
        header = json.load(archive.extractfile("backup.json") or io.BytesIO())
        for name in names:
            if name.startswith("blobs/"):
                content = archive.extractfile(name).read()
                assert Digest.of(content).hex == name.rpartition("/")[2]
    assert names[:2] == ["backup.json", "catalog.sqlite3"]
    assert (header["format"], header["blobs"], header["bytes"], header["since"]) == (1, 2, 7, None)


async def test_progress_counts_up_to_the_whole(store: Store, file: Path) -> None:
    await store.push_image(API, b"x" * 3_000_000)
    told = []
    await Backup(store.core, store.core.settings.root / "catalog.db", lambda *step: told.append(step)).write(file)
    assert {phase for phase, _, _ in told} == {"catalog", "blobs"}
    assert told[-1] == ("blobs", 3_000_002, 3_000_002)
    assert len([step for step in told if step[0] == "blobs"]) >= 3


async def test_rows_come_in_the_order_of_their_digests(store: Store, monkeypatch) -> None:
    await store.push_image(API, *(b"layer %d" % number for number in range(7)))
    rows = await copies.blobs(store.core.db, "", 100)
    assert [row.digest for row in rows] == sorted(row.digest for row in rows)
    assert len(rows) == 8
