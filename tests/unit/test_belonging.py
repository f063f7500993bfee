"""A folder and a catalog that do not belong together are refused before anything looks for orphans."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.collector import Collector
from regserver.content.core import Core
from regserver.model.digest import Algorithm, Digest
from regserver.storage import belonging
from regserver.storage.belonging import FILE, FolderRefused, check, claim, owner
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.catalog import accounts
from regserver.storage.sql.migrate import Migratable, migrate
from regserver.storage.sql.port import Database
from support.databases import ENGINES
from support.registry import make_settings


@pytest.fixture(params=sorted(ENGINES))
async def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Migratable]:
    database = await ENGINES[request.param](tmp_path / "a").open()
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Migratable]:
    database = await ENGINES["sqlite"](tmp_path / "b").open()
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
    (tmp_path / "root").mkdir()
    store = await FilesystemBlobStore.at(tmp_path / "root")
    yield store
    await store.close()


async def add_file(blobs: FilesystemBlobStore) -> None:
    await blobs.begin("0" * 32, Algorithm.SHA256)
    staged = await blobs.resume("0" * 32, Algorithm.SHA256)
    await staged.write([b"bytes"])
    await staged.publish(Digest.of(b"bytes"))
    await staged.close()


async def count(blobs: FilesystemBlobStore) -> int:
    return sum([len(batch) async for batch in blobs.scan()])


async def test_the_first_start_ties_them_and_every_later_one_is_let_in(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    await claim(root, catalog, blobs)
    assert owner(root) == await accounts.installation_id(catalog)
    assert (root / FILE).stat().st_mode & 0o777 == 0o600
    await add_file(blobs)
    await claim(root, catalog, blobs)
    await check(root, catalog)


async def test_an_empty_catalog_does_not_get_a_folder_with_blobs(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path
) -> None:
    await add_file(blobs)
    with pytest.raises(FolderRefused, match="holds the blobs of another catalog"):
        await claim(tmp_path / "root", catalog, blobs)
    with pytest.raises(LookupError):
        await accounts.installation_id(catalog)
    swept = await Collector(Core(catalog, blobs, make_settings(tmp_path / "root"))).sweep()
    assert swept == 1, "which is what would have happened to the blob"


async def test_a_first_start_beside_another_one_is_let_in_however_far_that_has_come(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, is_new, asked = tmp_path / "root", belonging._is_new, list[bool]()

    async def overtaken(db: Database) -> bool:
        found = await is_new(db)
        asked.append(found)
        if len(asked) == 1:
            await claim(root, catalog, blobs)
            await add_file(blobs)
        return found

    monkeypatch.setattr(belonging, "_is_new", overtaken)
    await claim(root, catalog, blobs)
    assert asked[0], "it looked first"
    assert owner(root) == await accounts.installation_id(catalog)


async def test_what_two_first_starts_write_neither_of_them_breaks(tmp_path: Path) -> None:
    for _ in range(50):
        await asyncio.gather(*(asyncio.to_thread(belonging._write, tmp_path, "an-id") for _ in range(4)))
        assert owner(tmp_path) == "an-id"
        assert [path.name for path in tmp_path.iterdir()] == [FILE]
        (tmp_path / FILE).unlink()


async def test_a_catalog_of_before_the_file_takes_its_folder(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path
) -> None:
    await catalog.write(accounts.establish)
    await add_file(blobs)
    await claim(tmp_path / "root", catalog, blobs)
    assert owner(tmp_path / "root") == await accounts.installation_id(catalog)
    assert await count(blobs) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_another_catalog_is_refused_whether_it_knows_anything_or_not(
    catalog: Migratable, other: Migratable, blobs: FilesystemBlobStore, tmp_path: Path, known: bool
) -> None:
    await claim(tmp_path / "root", catalog, blobs)
    if known:
        await other.write(accounts.establish)
    before = owner(tmp_path / "root")
    with pytest.raises(FolderRefused):
        await claim(tmp_path / "root", other, blobs)
    with pytest.raises(FolderRefused, match="belongs to another catalog"):
        await check(tmp_path / "root", other)
    assert owner(tmp_path / "root") == before


async def test_a_start_that_ends_before_the_file_is_written_is_taken_up_by_the_next(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path
) -> None:
    await claim(tmp_path / "root", catalog, blobs)
    (tmp_path / "root" / FILE).unlink()
    (tmp_path / "root" / f"{FILE}.new").write_text("half")
    await claim(tmp_path / "root", catalog, blobs)
    assert owner(tmp_path / "root") == await accounts.installation_id(catalog)


async def test_a_copied_folder_keeps_its_catalog(
    catalog: Migratable, blobs: FilesystemBlobStore, tmp_path: Path
) -> None:
    await claim(tmp_path / "root", catalog, blobs)
    shutil.copytree(tmp_path / "root", tmp_path / "copy")
    await check(tmp_path / "copy", catalog)
