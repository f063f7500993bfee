"""``regserver backup`` and ``restore`` as somebody types them, and a restored folder as it serves again."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from support.managing import call, make_registry
from support.pushing import Registry, push_image
from support.registry import ADMIN, ADMIN_TOKEN, clean_environment, served_app
from support.shell import Ended


def run(*arguments: object) -> Ended:
    command = [sys.executable, "-m", "regserver", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    """Of a registry that has been served, with the private registry `mine` and an image in it."""
    async with served_app(tmp_path / "root") as client:
        guarded = Registry(client, ADMIN)
        await make_registry(guarded, "mine")
        await push_image(guarded, "mine/app", "v1")
    return tmp_path / "root"


async def test_a_restored_registry_knows_its_passwords_tokens_and_images(tmp_path: Path) -> None:
    async with served_app(tmp_path / "root") as client:
        guarded = Registry(client, ADMIN)
        registry = await make_registry(guarded, "mine")
        image = await push_image(guarded, "mine/app", "v1")
        robot = (await call(guarded, "GET", f"/registries/{registry}/credentials")).json["data"]
        token = (await call(guarded, "POST", "/tokens", {"name": "ci", "scopes": ["read"]})).json["data"]["token"]
        assert run("backup", tmp_path / "file.tar.zst", "--root", tmp_path / "root").code == 0
    assert run("restore", tmp_path / "file.tar.zst", "--root", tmp_path / "new").code == 0
    async with served_app(tmp_path / "new") as client:
        login = {"Authorization": encode_basic_auth(robot["username"], robot["password"])}
        async with client.get("/v2/mine/app/manifests/v1", headers=login) as pulled:
            assert (pulled.status, pulled.headers["Docker-Content-Digest"]) == (200, image.digest)
        async with client.get("/v1/registries", headers={"Authorization": f"Bearer {token}"}) as listed:
            assert [row["id"] for row in (await listed.json())["data"]] == [registry]
        async with client.get("/v2/mine/app/manifests/v1") as refused:
            assert refused.status == 401


async def test_it_says_what_it_did(root: Path, tmp_path: Path) -> None:
    done = run("backup", tmp_path / "one.tar", "--root", root)
    assert done.code == 0
    assert f"{tmp_path}/one.tar: " in done.out
    assert " blobs, " in done.out
    done = run("restore", tmp_path / "one.tar", "--root", tmp_path / "new")
    assert (done.code, "every digest checked" in done.out, done.err) == (0, True, "")


async def test_what_cannot_be_done_as_it_is_written_ends_with_2(root: Path, tmp_path: Path) -> None:
    (tmp_path / "there.tar").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        (("backup", tmp_path / "there.tar", "--root", root), "exists"),
        (("backup", tmp_path / "backup.zip", "--root", root), "ends in .tar or .tar.zst"),
        (("backup", tmp_path / "no" / "backup.tar", "--root", root), "no such folder"),
        (("backup", tmp_path / "backup.tar", "--root", tmp_path / "empty"), "there is no registry in this folder"),
        (("backup", tmp_path / "backup.tar", "--root", tmp_path / "nothing"), "there is no registry in this folder"),
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
    assert not (tmp_path / "nothing").exists()


async def test_what_fails_ends_with_1_and_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other.tar").write_bytes(b"something else")
    for arguments, said in (
        (("restore", tmp_path / "missing.tar", "--root", tmp_path / "new"), "missing.tar: No such file"),
        (("restore", tmp_path / "other.tar", "--root", tmp_path / "new"), "other.tar"),
        (("backup", tmp_path / "b.tar", "--root", root, "--since", tmp_path / "missing.tar"), "missing.tar"),
        (("backup", tmp_path / "b.tar", "--root", root, "--since", tmp_path / "other.tar"), "other.tar"),
    ):
        done = run(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert said in done.err
    assert not (tmp_path / "new").exists()


async def test_a_catalog_of_an_older_version_is_migrated_by_somebody_else_first(root: Path, tmp_path: Path) -> None:
    with sqlite3.connect(root / "catalog.sqlite3") as catalog:
        catalog.execute("DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)")
    catalog.close()
    done = run("backup", tmp_path / "backup.tar", "--root", root)
    assert (done.code, "run: regserver migrate" in done.err) == (1, True)
    assert not (tmp_path / "backup.tar").exists()


async def test_damage_is_told_blob_by_blob(root: Path, tmp_path: Path) -> None:
    blob = next(path for path in (root / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 2)
    blob.write_bytes(b"damaged")
    digest = f"sha256:{blob.name.partition('.')[0]}"
    done = run("backup", tmp_path / "backup.tar", "--root", root)
    assert done.code == 1
    assert f"{digest} is missing or damaged in" in done.err
    assert not (tmp_path / "backup.tar").exists()
    damaged = tmp_path / "damaged-backup.tar"
    done = run("restore", damaged, "--root", tmp_path / "new")
    assert (done.code, digest in done.err, (tmp_path / "new").exists()) == (1, True, False)
    done = run("restore", damaged, "--root", tmp_path / "new", "--allow-damaged")
    assert (done.code, digest in done.err, (tmp_path / "new").exists()) == (1, True, True)


async def test_no_secret_of_a_backup_is_ever_printed(root: Path, tmp_path: Path) -> None:
    (root / "admin-token").write_text(ADMIN_TOKEN)
    (root / "admin-token").chmod(0o600)
    done = run("backup", tmp_path / "backup.tar", "--root", root)
    assert done.code == 0
    restored = run("restore", tmp_path / "backup.tar", "--root", tmp_path / "new")
    assert (tmp_path / "new" / "admin-token").read_text() == ADMIN_TOKEN
    keys = [path.read_text() for path in (root / "keys").iterdir()]
    assert keys
    for secret in (ADMIN_TOKEN, *keys):
        assert secret not in done.out + done.err + restored.out + restored.err
