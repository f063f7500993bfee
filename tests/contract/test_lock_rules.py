"""Steps of the store that meet in the middle, on two connections: whatever both were told stays true.

Each pair meets at several statements of the first step, and then with their parts exchanged. On SQLite the second one
waits; on PostgreSQL it goes on until a row or the other's commit is in its way. REGSERVER_MEETINGS=1000 tries them all.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.model.policy import Immutability, Policy
from regserver.storage.catalog import policies
from regserver.storage.sql import postgres as adapter
from support.databases import MIGRATED_ENGINES
from support.interleaving import Step, Two, opened_twice
from support.store import Store, image, index, pusher, target

MEETINGS = {"sqlite": 2, "postgres": int(os.environ.get("REGSERVER_MEETINGS", "6"))}  # statements tried of each pair
LAYER, OTHER = b"a layer", b"another layer"
IMAGE, SECOND = image(LAYER), image(LAYER, OTHER)
HERE, THERE = target("my/api"), target("other/api")


@dataclass(frozen=True)
class Pair:
    """What is there first, the two steps, and what must hold after both, given what they were told."""

    before: Callable[[Store], Awaitable[Any]]
    one: Step
    other: Step
    after: Callable[[Store, Any, Any], Awaitable[None]]


# ---- what is there first


async def loose_blob(store: Store) -> None:
    """A blob without link or lease, which a collection takes."""
    await unused_link(store)
    await store.blobs.delete(HERE, pusher("janitor"), Digest.of(LAYER))


async def unused_link(store: Store) -> None:
    """Blobs that are linked, and that no manifest uses and no lease holds any more."""
    for content in (b"{}", LAYER):
        await store.push_blob(HERE, content, pusher("before"))
    await store.pass_epochs(10)


async def dead_manifest(store: Store) -> None:
    await store.push_image(HERE, LAYER)
    await store.manifests.untag(HERE, pusher("janitor"), Tag("v1"))
    await store.pass_epochs(10)


async def uploaded(store: Store) -> None:
    """Everything that two images need, pushed by the session that pushes their manifests."""
    for content in (b"{}", LAYER, OTHER):
        await store.push_blob(HERE, content, pusher("pusher"))


async def immutable_tags(store: Store) -> None:
    await uploaded(store)
    policy = Policy(immutable=Immutability(("v*",)))
    await store.core.db.write(lambda tx: policies.put(tx, "reg_my", policy, 1))


async def a_child(store: Store) -> None:
    await uploaded(store)
    await store.push(HERE, IMAGE, "child", who=pusher("pusher"))


async def small_quota(store: Store) -> None:
    await store.core.db.write(lambda tx: tx.execute("UPDATE registries SET quota_bytes = 20 WHERE id = 'reg_my'"))


async def shared_leases(store: Store) -> None:
    """Promises to a session that several pushers share: their manifests spend the same rows."""
    for _ in range(2):
        for content in (b"{}", LAYER, OTHER):
            await store.push_blob(HERE, content, pusher("shared", shared=True))
    for content in (LAYER, OTHER, b"{}"):
        await store.blobs.delete(HERE, pusher("janitor"), Digest.of(content))


# ---- steps


async def collect(store: Store) -> None:
    await store.collector.collect("reg_my")


async def push_layer(store: Store) -> None:
    for content in (LAYER, b"{}"):
        await store.push_blob(HERE, content, pusher("pusher"))


async def ask(store: Store) -> bool:
    for content in (LAYER, b"{}"):
        await store.blobs.stat(HERE, pusher("pusher"), Digest.of(content))
    return True


async def mount(store: Store) -> bool:
    mounted = [await store.blobs.mount(THERE, pusher("pusher"), Digest.of(content), HERE) for content in (LAYER, b"{}")]
    return None not in mounted


def tag(name: str, content: bytes = IMAGE, *, session: str = "pusher", shared: bool = False) -> Step:
    async def step(store: Store) -> None:
        await store.push(HERE, content, name, who=pusher(session, shared=shared))

    return step


async def delete_layer(store: Store) -> None:
    await store.blobs.delete(HERE, pusher("janitor"), Digest.of(LAYER))


async def delete_child(store: Store) -> None:
    await store.manifests.delete(HERE, pusher("janitor"), Digest.of(IMAGE))


def push_of_twelve(content: bytes) -> Step:
    async def step(store: Store) -> None:
        await store.push_blob(HERE, content * 12, pusher("pusher"))

    return step


# ---- what must hold after


async def pushes_its_manifest(store: Store, _: Any, told: Any) -> None:
    """I3: who was told that the blobs are there brings the manifest, and it pulls."""
    if isinstance(told, RegistryError):
        assert told.code is ErrorCode.BLOB_UNKNOWN
        return
    await tag("v1")(store)
    await pulls(store, "v1", IMAGE)


async def mounted_is_usable(store: Store, _: Any, told: Any) -> None:
    if told is True:
        await store.push(THERE, IMAGE, "v1", who=pusher("pusher"))
        await pulls(store, "v1", IMAGE, at=THERE)


async def stored_or_refused(store: Store, _: Any, told: Any) -> None:
    if isinstance(told, RegistryError):
        assert told.code is ErrorCode.MANIFEST_BLOB_UNKNOWN
    else:
        await pulls(store, "v1", IMAGE)


async def an_index_has_its_children(store: Store, deleted: Any, told: Any) -> None:
    assert isinstance(deleted, RegistryError) != isinstance(told, RegistryError), "one of them comes first"
    if not isinstance(told, RegistryError):
        await pulls(store, "all", index(IMAGE))
        await store.manifests.get(HERE, pusher("reader"), Digest.of(IMAGE))


async def one_is_denied(store: Store, one: Any, other: Any) -> None:
    refused = [told for told in (one, other) if isinstance(told, RegistryError)]
    assert [told.code for told in refused] == [ErrorCode.DENIED]


async def both_are_there(store: Store, one: Any, other: Any) -> None:
    assert (one, other) == (None, None)
    await pulls(store, "v1", IMAGE)
    await pulls(store, "v2", SECOND)


async def the_last_event_is_what_the_tag_names(store: Store, one: Any, other: Any) -> None:
    assert (one, other) == (None, None)
    ((digest,),) = await store.core.db.fetch("SELECT digest FROM tags")
    events = await store.core.db.fetch("SELECT digest FROM tag_events ORDER BY id")
    assert (len(events), events[-1][0]) == (2, digest)


async def pulls(store: Store, name: str, content: bytes, at: Any = HERE) -> None:
    _, pulled = await store.manifests.get(at, pusher("reader"), Tag(name))
    assert pulled == content
    if content in (IMAGE, SECOND):
        for blob in (b"{}", LAYER):
            file = await store.blobs.open(at, Digest.of(blob))
            assert os.read(file.fd, 100) == blob
            os.close(file.fd)


PAIRS = {
    "a collection takes a blob that is pushed again": Pair(loose_blob, collect, push_layer, pushes_its_manifest),
    "a collection takes a blob that somebody asks for": Pair(unused_link, collect, ask, pushes_its_manifest),
    "a collection takes a blob that is mounted": Pair(unused_link, collect, mount, mounted_is_usable),
    "a collection takes a blob whose manifest comes": Pair(unused_link, collect, tag("v1"), stored_or_refused),
    "a collection takes a manifest that is tagged": Pair(dead_manifest, collect, tag("v1"), stored_or_refused),
    "a blob is deleted whose manifest comes": Pair(uploaded, delete_layer, tag("v1"), stored_or_refused),
    "a manifest is deleted that an index lists": Pair(
        a_child, delete_child, tag("all", index(IMAGE)), an_index_has_its_children
    ),
    "two pushes fit into a quota alone": Pair(small_quota, push_of_twelve(b"x"), push_of_twelve(b"y"), one_is_denied),
    "two manifests of one image come first": Pair(uploaded, tag("v1"), tag("v2", SECOND), both_are_there),
    "two manifests take one tag": Pair(uploaded, tag("v1"), tag("v1", SECOND), the_last_event_is_what_the_tag_names),
    "two manifests take one immutable tag": Pair(immutable_tags, tag("v1"), tag("v1", SECOND), one_is_denied),
    "two manifests spend the same promises": Pair(
        shared_leases,
        tag("v1", session="shared", shared=True),
        tag("v2", SECOND, session="shared", shared=True),
        both_are_there,
    ),
}


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """What PostgreSQL refused on the way."""
    seen: list[BaseException] = []
    real = adapter.failure
    monkeypatch.setattr(adapter, "failure", lambda error: seen.append(error) or real(error))
    return seen


@pytest.mark.parametrize("engine", sorted(MIGRATED_ENGINES))
@pytest.mark.parametrize("exchanged", [False, True], ids=["", "exchanged"])
@pytest.mark.parametrize("name", PAIRS)
async def test_what_two_were_told_stays_true(
    engine: str, name: str, exchanged: bool, tmp_path: Path, failures: list[BaseException]
) -> None:
    pair = PAIRS[name]
    one, other = (pair.other, pair.one) if exchanged else (pair.one, pair.other)
    async with opened_twice(engine, tmp_path) as two:
        await two.start_over()
        await pair.before(two.second)
        for at in chosen(await two.count(one), MEETINGS[engine]):
            await two.start_over()
            await pair.before(two.second)
            told = await two.meet(one, other, at)
            await pair.after(two.second, *(reversed(told) if exchanged else told))
            await everything_is_in_order(two)
    assert not [error for error in failures if isinstance(error, asyncpg.DeadlockDetectedError)]


def chosen(statements: int, meetings: int) -> list[int]:
    """So many of the statements, spread evenly, the first and the last among them."""
    assert statements > 1
    last = min(meetings, statements) - 1
    return [1 + round(place * (statements - 1) / last) for place in range(last + 1)]


async def everything_is_in_order(two: Two) -> None:
    for registry in ("reg_my", "reg_other"):
        assert await two.second.counter_error(registry) == 0, "I6"
    keys = await two.second.core.db.fetch("SELECT key FROM blobs")
    assert {row[0] for row in keys} <= {key for key, _ in two.files.published}, "I1"
