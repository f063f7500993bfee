"""What a client is told when the disk or the catalog refuses: never 201, nothing kept, and how it goes on."""

import errno
import os
from typing import Any

import pytest

from regserver.content.collector import Collector
from regserver.storage.blobs.disk import Disk
from regserver.storage.blobs.staging import FilesystemStaged
from regserver.storage.sql.port import DatabaseFailed
from regserver.web.context import SERVICES
from support.pushing import OCTETS, Registry, digest_of, make_content, push_blob, push_image, start_upload

REPOSITORY = "my/api"
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"


def services(registry: Registry) -> Any:
    return registry.client.app[SERVICES]  # type: ignore[index]


async def files(registry: Registry) -> int:
    return sum([len(batch) async for batch in services(registry).core.blobs.scan()])


async def has_blob(registry: Registry, digest: str) -> bool:
    return (await registry.send("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200


def no_room(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No room for one more byte of a blob; what is there can be read. ``undo`` gives the room back."""
    monkeypatch.setattr(Disk, "writev", no_room)
    return monkeypatch


async def test_a_sync_that_fails_is_no_201_and_turns_readiness_red(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_blob(registry, REPOSITORY)
    syncs = []

    def fail(_: Disk, fd: int) -> None:
        syncs.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Disk, "fsync", fail)
    content = make_content()
    answer = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
    assert answer.refusal == (503, "UNAVAILABLE")
    monkeypatch.undo()
    assert not await has_blob(registry, digest_of(content))
    ready = await registry.send("GET", "/readyz")
    assert ready.status == 503
    assert "sync" in ready.body.decode()
    again = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
    assert again.status == 503, "a disk that once lost bytes is not trusted again by this process"
    assert len(syncs) == 1, "a failed sync is never tried again"


async def test_a_full_disk_keeps_the_session_and_the_rest_can_follow(
    registry: Registry, full_disk: pytest.MonkeyPatch
) -> None:
    location, content = await start_upload(registry, REPOSITORY), make_content(5000)
    refused = await registry.send("PATCH", location, data=content, headers={"Content-Type": OCTETS})
    assert refused.refusal == (503, "UNAVAILABLE")
    assert int(refused.headers["Retry-After"]) > 0
    full_disk.undo()
    assert (await registry.send("GET", location)).headers["Range"] == "0-0"
    done = await registry.send("PUT", location, data=content, query={"digest": digest_of(content)})
    assert done.status == 201
    assert await has_blob(registry, digest_of(content))


async def test_a_full_disk_still_serves_what_it_has(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await push_image(registry, REPOSITORY)
    monkeypatch.setattr(Disk, "writev", no_room)
    content = make_content()
    refused = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
    assert refused.status == 503
    pulled = await registry.send("GET", f"/v2/{REPOSITORY}/manifests/{image.digest}")
    assert pulled.body == image.content
    for blob in [image.document["config"], *image.document["layers"]]:
        answer = await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{blob['digest']}")
        assert digest_of(answer.body) == blob["digest"]


async def test_a_whole_blob_that_was_refused_leaves_no_file(registry: Registry, full_disk: pytest.MonkeyPatch) -> None:
    content = make_content()
    refused = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
    assert refused.status == 503
    await Collector(services(registry).core).reap()
    assert await files(registry) == 0


@pytest.mark.parametrize("step", ["blob", "manifest"])
async def test_a_commit_that_fails_is_no_201(registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    image = await push_image(registry, REPOSITORY)
    location, content = await start_upload(registry, REPOSITORY), make_content()
    await registry.send("PATCH", location, data=content, headers={"Content-Type": OCTETS})

    async def fail(_: Any) -> Any:
        raise DatabaseFailed("disk I/O error")

    database = services(registry).core.db
    monkeypatch.setattr(type(database), "write", lambda _, body: fail(body))
    if step == "blob":
        answer = await registry.send("PUT", location, query={"digest": digest_of(content)})
    else:
        path = f"/v2/{REPOSITORY}/manifests/again"
        answer = await registry.send("PUT", path, data=image.content, headers={"Content-Type": image.media_type})
    assert answer.refusal == (503, "UNAVAILABLE")
    monkeypatch.undo()
    assert not await has_blob(registry, digest_of(content))
    assert (await registry.send("GET", f"/v2/{REPOSITORY}/manifests/again")).status == 404
    assert await push_blob(registry, REPOSITORY, content) == digest_of(content), "the same push again goes through"
    assert await has_blob(registry, digest_of(content))


@pytest.mark.parametrize("way", ["in one request", "in three"])
async def test_a_commit_that_fails_behind_the_rename_leaves_no_file(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    content = make_content()
    digest = {"digest": digest_of(content)}
    location = await start_upload(registry, REPOSITORY)
    database = services(registry).core.db
    write, publish = type(database).write, FilesystemStaged.publish
    renamed: list[None] = []

    async def publish_and_note(staged: FilesystemStaged, digest: Any) -> None:
        await publish(staged, digest)
        renamed.append(None)

    async def fail_once(self: Any, body: Any) -> Any:
        if renamed:
            renamed.clear()
            raise DatabaseFailed("no room", full=True)
        return await write(self, body)

    monkeypatch.setattr(FilesystemStaged, "publish", publish_and_note)
    monkeypatch.setattr(type(database), "write", fail_once)
    if way == "in one request":
        refused = await registry.send("POST", UPLOADS, data=content, query=digest)
    else:
        refused = await registry.send("PUT", location, data=content, query=digest)
    assert refused.refusal == (503, "UNAVAILABLE")
    monkeypatch.undo()
    await registry.send("DELETE", location)
    await Collector(services(registry).core).reap()
    assert await files(registry) == 0
