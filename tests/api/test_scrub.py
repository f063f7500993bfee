"""`regserver scrub` beside a running server: what it finds is served to nobody, and a push brings it back."""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from regserver.content.pace import at_once
from regserver.model.digest import Digest
from regserver.model.ids import new_secret
from regserver.storage.catalog import blobs, usage
from regserver.storage.sql.port import Transaction
from support.environment import clean_environment
from support.managing import call, services_of
from support.pushing import Registry, digest_of, id_of, make_content, push_blob, push_image
from support.registry import served_app

REPOSITORY = "my/api"


async def scrub(root: Path, *flags: str) -> tuple[int, Any, str]:
    """Exit code, the report, and what stands on stderr."""
    command = [sys.executable, "-m", "regserver", "scrub", "--root", str(root), "--json", *flags]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=clean_environment())
    out, err = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else None, err.decode()


def file_of(root: Path, digest: str) -> Path:
    (found,) = root.joinpath("blobs/sha256").glob(f"*/{digest.partition(':')[2]}.*")
    return found


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(content)


async def store_many(registry: Registry, root: Path, contents: list[bytes]) -> None:
    """As pushed blobs, without the waits for the disk."""
    registry_id = await id_of(registry, "my")
    files = {Digest.of(content): (new_secret(), content) for content in contents}
    for digest, (key, content) in files.items():
        folder = root / "blobs" / "sha256" / digest.hex[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{digest.hex}.{key}").write_bytes(content)

    async def body(tx: Transaction) -> None:
        ((repository_id,),) = await tx.fetch("SELECT id FROM repositories WHERE registry_id = $1", registry_id)
        for digest, (key, content) in files.items():
            await blobs.insert(tx, digest, len(content), key)
            await blobs.link(tx, repository_id, registry_id, str(digest), len(content))

    await services_of(registry).core.db.write(body)


@pytest.mark.slow
async def test_a_hundred_flipped_bits_in_ten_thousand_blobs_are_found_and_nothing_else(root: Path) -> None:
    chance = random.Random(7)
    contents = [chance.randbytes(chance.randint(1, 3000)) for _ in range(10_000)]
    async with served_app(root, dev=True) as client:
        registry = Registry(client)
        await push_blob(registry, REPOSITORY, contents[0])
        await store_many(registry, root, contents[1:])
        rotten = chance.sample(contents, 100)
        for content in rotten:
            flip(file_of(root, digest_of(content)), chance.randrange(len(content) * 8))
        code, report, said = await scrub(root)
        assert code == 7
        assert "push an image again" not in said, "advice is for people"
        assert {finding["name"] for finding in report["findings"]} == set(map(digest_of, rotten))
        assert {(found["kind"], found["fault"], found["deed"]) for found in report["findings"]} == {
            ("blob", "digest", "quarantined")
        }
        assert (report["blobs"], report["damaged"]) == (10_000, 100)
        for content in rotten:
            for method in ("HEAD", "GET"):
                answer = await registry.send(method, f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")
                assert answer.status == 404
        sound = [content for content in contents if content not in set(rotten)]
        for content in chance.sample(sound, 200):
            assert (await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")).body == content
        for content in rotten[:5]:
            await push_blob(registry, REPOSITORY, content)
            assert (await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")).body == content
        registry_id, core = await id_of(registry, "my"), services_of(registry).core
        assert (await usage.read(core.db, registry_id))[0] == await usage.recomputed(core.db, registry_id)
        code, report, _ = await scrub(root)
        assert (code, report["damaged"]) == (7, 95)
        assert {finding["deed"] for finding in report["findings"]} <= {"known", "removed"}


async def test_an_image_that_rotted_is_pushed_again_as_docker_does_it(guarded: Registry, root: Path) -> None:
    """HEAD says 404, so the layer is sent; the manifest is known already."""
    await guarded.make_robot("my")
    pushed = await push_image(guarded, REPOSITORY, "v1")
    layer = pushed.document["layers"][0]["digest"]
    good = file_of(root, layer).read_bytes()
    flip(file_of(root, layer), 3)
    assert (await scrub(root))[0] == 7
    assert (await guarded.send("HEAD", f"/v2/{REPOSITORY}/blobs/{layer}")).status == 404
    refused = await guarded.send("GET", f"/v2/{REPOSITORY}/blobs/{layer}")
    assert refused.refusal == (404, "BLOB_UNKNOWN")
    assert len(list((root / "quarantine").rglob("*.*"))) == 1
    identity = await id_of(guarded, "my")
    shown = await call(guarded, "GET", f"/registries/{identity}/images/api/tags/v1")
    assert shown.json["data"]["damaged"] is True
    explained = await call(guarded, "GET", f"/registries/{identity}/explain/{layer}")
    assert explained.json["data"]["damaged"] is True
    await push_blob(guarded, REPOSITORY, good)
    manifest = await guarded.send(
        "PUT",
        f"/v2/{REPOSITORY}/manifests/v1",
        data=pushed.content,
        headers={"Content-Type": pushed.document["mediaType"]},
    )
    assert manifest.status == 201
    assert (await guarded.send("GET", f"/v2/{REPOSITORY}/blobs/{layer}")).body == good
    services = services_of(guarded)
    await services.jobs._collector.reap()
    assert list((root / "quarantine").rglob("*.*")) == []
    assert (await scrub(root))[:1] == (0,)


async def test_a_tag_whose_manifest_rotted_is_still_listed_and_says_that_it_is_withdrawn(guarded: Registry) -> None:
    await guarded.make_robot("my")
    await push_image(guarded, REPOSITORY, "v1")
    core, identity = services_of(guarded).core, await id_of(guarded, "my")

    async def spoil(tx: Transaction) -> None:
        await tx.execute("UPDATE manifests SET content = $1", b"{")

    await core.db.write(spoil)
    assert (await scrub(core.settings.root))[0] == 7
    listed = await call(guarded, "GET", f"/registries/{identity}/images/api/tags")
    assert [tag["name"] for tag in listed.json["data"]] == ["v1"]
    shown = (await call(guarded, "GET", f"/registries/{identity}/images/api/tags/v1")).json["data"]
    assert (shown["damaged"], shown["platforms"]) == (True, [])
    explained = (await call(guarded, "GET", f"/registries/{identity}/explain/{shown['digest']}")).json["data"]
    assert (explained["reason"], explained["damaged"]) == ("tag", True)
    assert (await guarded.send("GET", f"/v2/{REPOSITORY}/manifests/v1")).refusal == (404, "MANIFEST_UNKNOWN")
    assert (await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/v1")).status == 204


async def test_a_dry_run_leaves_everything_as_it_is(registry: Registry, root: Path) -> None:
    digest = await push_blob(registry, REPOSITORY)
    flip(file_of(root, digest), 0)
    code, report, _ = await scrub(root, "--dry-run")
    assert (code, report["dry_run"], report["findings"][0]["deed"]) == (7, True, "nothing")
    assert (await registry.send("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200
    assert not (root / "quarantine").exists()


async def test_a_sound_registry_ends_with_0_and_one_line(registry: Registry, root: Path) -> None:
    await push_blob(registry, REPOSITORY, make_content(2000))
    command = [sys.executable, "-m", "regserver", "scrub", "--root", str(root)]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, env=clean_environment())
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().startswith("read 1 blob and 0 manifests, 1.9")
    assert out.decode().endswith("all sound\n")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--bytes-per-second", "fast"), 2, "no number"),
        (("--root", "/nowhere/at/all"), 2, "no registry in this folder"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    root: Path, flags: tuple[str, str], code: int, said: str
) -> None:
    ended, report, line = await scrub(root, *flags)
    assert (ended, report) == (code, None)
    assert said in line


async def test_a_disk_that_is_gone_withdraws_nothing_and_says_what_to_do(registry: Registry, root: Path) -> None:
    digests = [await push_blob(registry, REPOSITORY) for _ in range(10)]
    (root / "blobs").rename(root / "elsewhere")
    code, report, line = await scrub(root)
    assert (code, report) == (1, None)
    assert "--accept-missing" in line
    (root / "blobs/sha256").rmdir()
    (root / "blobs/sha512").rmdir()
    (root / "blobs").rmdir()
    (root / "elsewhere").rename(root / "blobs")
    for digest in digests:
        assert (await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200


async def test_the_state_of_the_scrub_and_what_it_found_are_shown_to_administrators(
    guarded: Registry, root: Path
) -> None:
    await guarded.make_robot("my")
    services = services_of(guarded)
    shown = (await call(guarded, "GET", "/scrub")).json["data"]
    assert shown == {"status": "waiting", "bytes_per_second": 8388608, "damaged_blobs": 0, "damaged_manifests": 0}
    content = make_content(1000)
    digest = await push_blob(guarded, REPOSITORY, content)
    flip(file_of(root, digest), 9)
    assert await services.scrub.run_if_due(at_once, asyncio.Event())
    shown = (await call(guarded, "GET", "/scrub")).json["data"]
    assert (shown["status"], shown["phase"], shown["damaged_blobs"], shown["blobs_read"]) == ("waiting", "done", 1, 1)
    assert shown["started_at"] <= shown["completed_at"] < shown["next_at"]
    found = (await call(guarded, "GET", "/scrub/damage")).json
    (damage,) = found["data"]
    assert {**damage, "found_at": ""} == {
        "kind": "blob",
        "digest": digest,
        "fault": "digest",
        "found_at": "",
        "images": ["my/api"],
    }
    await push_blob(guarded, REPOSITORY, content)
    assert (await call(guarded, "GET", "/scrub/damage")).json["meta"]["total"] == 0


async def test_a_pass_that_runs_shows_how_far_it_is(guarded: Registry) -> None:
    await guarded.make_robot("my")
    services = services_of(guarded)
    for _ in range(101):
        await push_blob(guarded, REPOSITORY, make_content(100))
    stop = asyncio.Event()

    async def once(_: int) -> None:
        stop.set()

    assert not await services.scrub.run_if_due(once, stop)
    shown = (await call(guarded, "GET", "/scrub")).json["data"]
    assert (shown["status"], shown["phase"], shown["blobs_read"]) == ("running", "blobs", 100)
    assert 0 < shown["progress"]["done"] < shown["progress"]["total"]
