"""A forecast names what the next collection takes, and an explanation says why something stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content.explain import Explain
from regserver.content.images import Images
from regserver.errors import ErrorCode, RegistryError
from regserver.model import mediatypes
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.catalog.images import NameFilter, TagSort
from regserver.storage.sql.port import Transaction
from support.store import Store, descriptor, image, index, opened_store, pusher, target


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, lease_seconds=600) as opened:
        yield opened


async def job(store: Store) -> str:
    async def body(tx: Transaction) -> str:
        await tx.execute(
            "INSERT INTO gc_jobs (id, registry_id, status, phase, started_at)"
            " VALUES ('gc_1', 'reg_my', 'running', '', 0)"
        )
        return "gc_1"

    return await store.core.db.write(body)


async def fill(store: Store) -> None:
    """Two images that share a layer, an index, a signature, a leased blob, a blob shared with another registry."""
    api, web, other = target("my/api"), target("my/web"), target("other/api")
    one = await store.push_image(api, b"shared", b"one", tag="one")
    two = await store.push_image(api, b"shared", b"two", tag="two")
    await store.push(api, index(one, two), "both")
    for content in (b"sig", b"{}"):
        await store.push_blob(api, content)
    await store.push(api, image(b"sig", subject=descriptor(two, mediatypes.OCI_MANIFEST)))
    await store.push_image(web, b"shared", b"web", tag="v1")
    await store.push_image(other, b"web", tag="v1")
    await store.push_blob(web, b"in flight", pusher("bob"))
    await store.collector.reap()


@pytest.mark.parametrize(
    "deleted",
    [
        [],
        [("my/api", "one")],
        [("my/api", "both")],
        [("my/api", "both"), ("my/api", "two")],
        [("my/api", "both"), ("my/api", "one"), ("my/api", "two")],
        [("my/web", "v1")],
        [("my/api", "both"), ("my/api", "one"), ("my/api", "two"), ("my/web", "v1")],
    ],
)
async def test_a_forecast_names_what_the_collection_takes_to_the_byte(
    store: Store, deleted: list[tuple[str, str]]
) -> None:
    await fill(store)
    for name, tag in deleted:
        await store.manifests.untag(target(name), pusher("janitor"), Tag(tag))
    rows = {"manifests": "SELECT digest, repository_id FROM manifests", "blobs": "SELECT digest FROM blobs"}
    before = {table: set(await store.core.db.fetch(sql)) for table, sql in rows.items()}
    forecast = await Explain(store.core).forecast("reg_my")
    report = await store.collector.collect("reg_my", job_id=await job(store))
    gone = {table: before[table] - set(await store.core.db.fetch(sql)) for table, sql in rows.items()}
    assert sorted(item.digest for item in forecast.manifests) == sorted(row[0] for row in gone["manifests"])
    assert sorted(item.digest for item in forecast.blobs) == sorted(row[0] for row in gone["blobs"])
    assert forecast.bytes_freed == report.bytes_freed


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("my/api", ["one"]),
        ("my/api", ["both"]),
        ("my/api", ["both", "two"]),
        ("my/api", None),
        ("my/web", ["v1"]),
    ],
)
async def test_reclaimable_bytes_are_what_deleting_frees(store: Store, name: str, tags: list[str] | None) -> None:
    await fill(store)
    reclaimable = await Explain(store.core).reclaimable(target(name), tags)
    for tag in tags if tags is not None else ["one", "two", "both"]:
        await store.manifests.untag(target(name), pusher("janitor"), Tag(tag))
    assert (await store.collector.collect("reg_my", job_id=await job(store))).bytes_freed == reclaimable


async def both_ways(store: Store, name: str) -> int:
    """What an image would give back, reckoned in one statement and tag by tag."""
    tags = [row.name for row in (await Images(store.core).tags(target(name), NameFilter(), TagSort.NAME, 100, 0))[0]]
    at_once = await Explain(store.core).reclaimable(target(name))
    assert at_once == await Explain(store.core).reclaimable(target(name), tags)
    return at_once


async def test_an_image_is_reckoned_at_once_as_its_tags_are_one_by_one(store: Store) -> None:
    await fill(store)
    assert await both_ways(store, "my/api") == sum(map(len, (b"one", b"two", b"sig")))
    assert await both_ways(store, "my/web") == 0  # api has one of its layers too, another registry the other one
    assert await Explain(store.core).reclaimable(target("my/none")) == 0


async def test_what_a_lease_holds_is_not_reclaimed(store: Store) -> None:
    child = await store.push_image(target(), b"layer", b"another", tag="v1")
    whole = await both_ways(store, "my/api")
    await store.blobs.stat(target(), pusher("bob"), Digest.of(b"layer"))
    assert await both_ways(store, "my/api") == whole - len(b"layer")
    await store.manifests.stat(target(), pusher("bob"), Digest.of(child))
    assert await both_ways(store, "my/api") == 0
    await store.pass_epochs(20)
    assert await both_ways(store, "my/api") == whole


async def test_what_a_held_index_keeps_is_not_reclaimed(store: Store) -> None:
    child = await store.push_image(target(), b"layer", tag="v1")
    other = await store.push_image(target(), b"other", tag="v2")
    parent = index(child)
    await store.push(target(), parent)
    await store.pass_epochs(20)  # the leases have ended; the window of an index that had no tag yet has not
    assert await both_ways(store, "my/api") == len(b"other")
    assert other != child
    await store.push(target(), parent, "all")
    await store.pass_epochs(2000)
    assert await both_ways(store, "my/api") == len(b"layer") + len(b"other") + len(b"{}")


async def test_a_circle_of_subject_and_child_is_reclaimed(store: Store) -> None:
    child = await store.push_image(target(), b"layer")
    await store.push(target(), index(child, subject=descriptor(child, mediatypes.OCI_MANIFEST)), "both")
    await store.pass_epochs(20)
    assert await both_ways(store, "my/api") == len(b"layer") + len(b"{}")


async def test_what_is_garbage_already_is_not_reclaimed_by_a_delete(store: Store) -> None:
    await store.push_image(target(), b"old")
    await store.push_image(target(), b"new")  # moves the tag: the old layer is garbage from now on
    assert await Explain(store.core).reclaimable(target(), ["v1"]) == len(b"new") + len(b"{}")


async def why(store: Store, content: bytes, registry: str = "reg_my") -> tuple[str, tuple[str, ...]]:
    answer = await Explain(store.core).why(registry, Digest.of(content))
    return answer.reason, answer.path


async def test_the_shortest_path_from_a_tag_is_shown(store: Store) -> None:
    child = await store.push_image(target(), b"layer", tag="child")
    top = index(child)
    await store.push(target(), top, "top")
    digests = {content: str(Digest.of(content)) for content in (b"layer", child, top)}
    assert await why(store, b"layer") == ("tag", ("child", digests[child], digests[b"layer"]))
    await store.manifests.untag(target(), pusher(), Tag("child"))
    assert await why(store, b"layer") == ("tag", ("top", digests[top], digests[child], digests[b"layer"]))


async def test_a_lease_is_named_with_its_end(store: Store) -> None:
    await store.push_blob(target(), b"in flight")
    answer = await Explain(store.core).why("reg_my", Digest.of(b"in flight"))
    assert (answer.reason, answer.seconds) == ("lease", 720)
    await store.pass_epochs(11)
    assert (await Explain(store.core).why("reg_my", Digest.of(b"in flight"))).seconds == 60
    await store.pass_epochs(1)
    answer = await Explain(store.core).why("reg_my", Digest.of(b"in flight"))
    assert (answer.reason, answer.kept) == ("none", False)


async def test_windows_and_other_registries_are_named(store: Store) -> None:
    await store.push_image(target(), b"layer")
    await store.manifests.untag(target(), pusher(), Tag("v1"))
    assert (await why(store, b"layer"))[0] == "undo_window"
    for content in (b"{}", b"never tagged"):
        await store.push_blob(target(), content)
    await store.push(target(), image(b"never tagged"))
    await store.pass_epochs(15)
    assert (await why(store, b"never tagged"))[0] == "untagged_window"
    await store.push_blob(target("my/web"), b"elsewhere")
    await store.push_image(target("other/api"), b"elsewhere")
    await store.pass_epochs(15)
    assert (await why(store, b"elsewhere"))[0] == "other_registry"


async def test_a_digest_that_is_not_here_is_not_explained(store: Store) -> None:
    await store.push_image(target("other/api"), b"theirs")
    with pytest.raises(RegistryError) as refused:
        await Explain(store.core).why("reg_my", Digest.of(b"theirs"))
    assert refused.value.code is ErrorCode.NOT_FOUND
