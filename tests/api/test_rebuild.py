"""The catalog is lost: what the saved manifests and the blobs bring back, and why a start does not make it worse."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from regserver.content.saving import Saving
from regserver.storage import saved
from regserver.storage.archives import ArchiveFailed
from regserver.storage.catalog import usage
from regserver.storage.catalog.saved import newest
from regserver.web.context import SERVICES
from support.backups import checked
from support.pushing import IMAGE, INDEX
from support.registry import ADMIN_HEADERS, Client, clean_environment, fail_to_serve, served_app

ADMIN = ADMIN_HEADERS


def rebuild(root: Path, *more: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "regserver", "rebuild", "--root", str(root), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())
    return done.returncode, done.stdout, done.stderr


def lose_catalog(root: Path) -> None:
    for path in root.glob("catalog.sqlite3*"):
        path.unlink()


async def save(client: Client) -> None:
    await Saving(client.app[SERVICES].core).save()


def descriptor(content: bytes, media_type: str = "application/octet-stream") -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


async def put(client: Client, reference: str, content: bytes, media_type: str) -> None:
    async with client.put(
        f"/v2/mine/app/manifests/{reference}", data=content, headers={**ADMIN, "Content-Type": media_type}
    ) as answer:
        assert answer.status == 201, await answer.text()


async def fill(client: Client) -> dict[str, bytes]:
    """A registry `mine` with an image, an index of two images, and a referrer. Manifests by reference."""
    async with client.post(
        "/v1/registries", json={"name": "mine", "public": True, "quota": {"storage_gb": 1}}, headers=ADMIN
    ) as made:
        assert made.status == 201
    found: dict[str, bytes] = {}
    for name in ("v1", "amd64", "arm64", "signature"):
        layer = f"layer of {name}".encode() * 1000
        for content in (b"{}", layer) if name == "v1" else (layer,):
            digest = descriptor(content)["digest"]
            async with client.post(f"/v2/mine/app/blobs/uploads/?digest={digest}", data=content, headers=ADMIN) as done:
                assert done.status == 201, await done.text()
        document = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(b"{}"), "layers": [descriptor(layer)]}
        if name == "signature":
            document |= {"subject": descriptor(found["v1"], IMAGE), "artifactType": "application/vnd.test"}
        found[name] = json.dumps(document).encode()
        tag = name if name == "v1" else str(descriptor(found[name])["digest"])
        await put(client, tag, found[name], IMAGE)
    children = [descriptor(found[name], IMAGE) for name in ("amd64", "arm64")]
    found["multi"] = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
    await put(client, "multi", found["multi"], INDEX)
    return found


async def pulled(client: Client, reference: str) -> bytes:
    async with client.get(f"/v2/mine/app/manifests/{reference}", headers=ADMIN) as answer:
        assert answer.status == 200, reference
        return await answer.read()


async def test_everything_that_tags_reach_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        manifests = await fill(client)
        async with client.get("/v1/registries", headers=ADMIN) as answer:
            before = (await answer.json())["data"]
        await save(client)
    blobs = checked(root)
    lose_catalog(root)
    code, out, err = rebuild(root)
    assert (code, err) == (0, "")
    assert "5 blobs, 5 manifests, 2 tags" in out
    assert checked(root) == blobs
    async with served_app(root) as client:
        async with client.get("/v1/registries", headers=ADMIN) as answer:
            after = (await answer.json())["data"]
        kept = ("id", "name", "public", "quota", "storage_bytes")
        assert [{key: row.get(key) for key in kept} for row in after] == [
            {key: row.get(key) for key in kept} for row in before
        ]
        for reference in ("v1", "multi"):
            assert await pulled(client, reference) == manifests[reference]
        for name in ("amd64", "arm64", "signature"):
            assert await pulled(client, str(descriptor(manifests[name])["digest"])) == manifests[name]
        subject = descriptor(manifests["v1"])["digest"]
        async with client.get(f"/v2/mine/app/referrers/{subject}", headers=ADMIN) as answer:
            assert len((await answer.json())["manifests"]) == 1
        async with client.get(f"/v1/registries/{after[0]['id']}/credentials", headers=ADMIN) as answer:
            assert answer.status == 200, "the registry has its robot, with a new password"
        core = client.app[SERVICES].core
        registry = after[0]["id"]
        assert (await usage.read(core.db, registry))[0] == await usage.recomputed(core.db, registry)


async def test_a_rebuilt_registry_loses_nothing_to_its_next_collection(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        manifests = await fill(client)
        await save(client)
    lose_catalog(root)
    assert rebuild(root)[0] == 0
    async with served_app(root) as client:
        core, services = client.app[SERVICES].core, client.app[SERVICES]
        ((registry,),) = await core.db.fetch("SELECT id FROM registries")
        await services.jobs._collector.collect(registry)
        assert len(checked_files(root)) == 5
        assert await pulled(client, "multi") == manifests["multi"]


def checked_files(root: Path) -> list[Path]:
    return [path for path in (root / "blobs").rglob("*") if path.is_file()]


async def test_what_is_lost_is_named_and_the_rest_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        manifests = await fill(client)
        await save(client)
    lose_catalog(root)
    (missing,) = root.rglob(f"{hashlib.sha256(b'layer of arm64' * 1000).hexdigest()}.*")
    missing.unlink()
    (spoiled,) = root.rglob(f"{hashlib.sha256(b'layer of signature' * 1000).hexdigest()}.*")
    spoiled.write_bytes(b"something else")
    code, out, err = rebuild(root)
    assert code == 1
    assert "3 blobs, 2 manifests, 1 tag in" in out
    assert f"mine/app (multi): {descriptor(manifests['multi'])['digest']} is lost: missing: sha256:" in err
    for name in ("arm64", "signature"):
        assert f"mine/app: {descriptor(manifests[name])['digest']} is lost: missing: sha256:" in err
    assert "the bytes on the disk are others" in err
    async with served_app(root) as client:
        assert await pulled(client, "v1") == manifests["v1"]


async def test_a_catalog_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        await fill(client)
        await save(client)
    for name in ("catalog.sqlite3", "catalog.sqlite3-wal"):
        lose_catalog(root)
        (root / name).write_bytes(b"")
        code, _, err = rebuild(root)
        assert (code, f"{name} is there" in err) == (2, True)
        assert (root / name).read_bytes() == b""


@pytest.mark.parametrize("spoil", [lambda content: content[:-1], lambda content: content[:40], lambda _: b"no zstd"])
async def test_a_copy_that_is_not_whole_is_refused(tmp_path: Path, spoil) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        await fill(client)
        await save(client)
    lose_catalog(root)
    copy = root / saved.FILE
    copy.write_bytes(spoil(copy.read_bytes()[:-10] if spoil(b"x" * 9) == b"x" * 8 else copy.read_bytes()))
    before = sorted(path.name for path in root.iterdir())
    code, _, err = rebuild(root)
    assert code == 1
    assert "Traceback" not in err
    assert sorted(path.name for path in root.iterdir()) == before
    (tmp_path / "none").mkdir()
    assert rebuild(tmp_path / "none")[0] == 1


async def test_a_server_does_not_start_on_blobs_without_their_catalog(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with served_app(root) as client:
        await fill(client)
    files = checked_files(root)
    lose_catalog(root)
    code, err = fail_to_serve(root)
    assert (code, "regserver rebuild" in err) == (1, True)
    assert checked_files(root) == files
    assert not (root / "catalog.sqlite3").exists()


async def test_the_copy_is_renewed_after_a_change_and_only_then(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("regserver.content.saving._SETTLED_MS", -1)
    async with served_app(tmp_path / "root") as client:
        await fill(client)
        saving = Saving(client.app[SERVICES].core)
        assert [await saving.save_if_changed() for _ in range(2)] == [True, False]
        (tmp_path / "root" / saved.FILE).unlink()
        assert await saving.save_if_changed()
        manifest = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(b"{}"), "layers": []})
        await put(client, str(descriptor(manifest.encode())["digest"]), manifest.encode(), IMAGE)
        assert await saving.save_if_changed(), "a manifest that was pushed by its digest is a change too"
        lines = [line[0] for line in saved.read(tmp_path / "root" / saved.FILE)]
        assert {word: lines.count(word) for word in set(lines)} == {"registry": 1, "image": 1, "tag": 2, "manifest": 6}
        assert (tmp_path / "root" / saved.FILE).stat().st_mode & 0o777 == 0o600
        assert await newest(client.app[SERVICES].core.db)


async def test_a_line_that_may_still_be_overtaken_does_not_end_the_saving(tmp_path: Path) -> None:
    """The id of a line is drawn before its commit: one that commits late sorts before one that was saved."""
    async with served_app(tmp_path / "root") as client:
        await fill(client)
        saving = Saving(client.app[SERVICES].core)
        assert [await saving.save_if_changed() for _ in range(2)] == [True, True]


async def test_a_save_that_fails_leaves_the_last_copy(tmp_path: Path, monkeypatch) -> None:
    async with served_app(tmp_path / "root") as client:
        await fill(client)
        await save(client)
        before = (tmp_path / "root" / saved.FILE).read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(saved.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            await save(client)
        monkeypatch.undo()
        assert (tmp_path / "root" / saved.FILE).read_bytes() == before
        assert not (tmp_path / "root" / f"{saved.FILE}.new").exists()


async def test_the_bytes_of_a_manifest_are_kept_exactly(tmp_path: Path) -> None:
    content = bytes(range(256)) + '{"ü": "\u2028"}'.encode()
    writer = saved.Writer(tmp_path / saved.FILE)
    writer.add([["manifest", 1, "sha256:0", IMAGE, saved.encode(content)]])
    writer.finish()
    ((_, _, _, _, text),) = saved.read(tmp_path / saved.FILE)
    assert saved.decode(text) == content


async def test_two_who_save_at_once_do_not_mix(tmp_path: Path) -> None:
    writer = saved.Writer(tmp_path / saved.FILE)
    with pytest.raises(ArchiveFailed):
        saved.Writer(tmp_path / saved.FILE)
    writer.discard()
    saved.Writer(tmp_path / saved.FILE).discard()
