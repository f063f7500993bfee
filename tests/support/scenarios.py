"""Short stories of the real store that fall if one decision of the proof is made wrongly (support/mistakes.py)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Algorithm, Digest
from regserver.model.names import Tag
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.port import DatabaseFailed
from regserver.storage.sql.sqlite import SQLiteDatabase
from support import mistakes
from support.effects import Crash, Effects, EffectsBlobStore, EffectsDatabase
from support.rot import scrub
from support.store import Store, body, image, index, opened_store, pusher, target
from support.wholeness import assert_settled, assert_whole

T = TypeVar("T")
Scenario = Callable[[Path], Awaitable[None]]
Step = Callable[[Store], Awaitable[Any]]
HERE, THERE = target("my/api"), target("my/web")
FIRST, SECOND, JANITOR = pusher("first"), pusher("second"), pusher("janitor")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Store, Effects]]:
    effects = Effects()

    async def database() -> Migratable:
        return EffectsDatabase(await SQLiteDatabase.open(folder / "catalog.db"), effects)

    blobs = await FilesystemBlobStore.at(folder)
    try:
        store = opened_store(folder, EffectsBlobStore(blobs, effects), open_database=database, untagged_seconds=0)
        async with store as opened:
            yield opened, effects
    finally:
        await blobs.close()


async def granted(step: Awaitable[T]) -> T:
    """The step's result: nothing stands in its way."""
    try:
        return await step
    except (RegistryError, DatabaseFailed) as refused:
        raise AssertionError(f"refused: {refused!r}") from refused


async def refusal(step: Awaitable[Any]) -> Exception | None:
    try:
        await step
    except (RegistryError, DatabaseFailed) as refused:
        return refused
    return None


async def assert_readable(store: Store, content: bytes) -> None:
    file = await granted(store.blobs.open(HERE, Digest.of(content)))
    try:
        assert os.pread(file.fd, file.size + 1, 0) == content
    finally:
        os.close(file.fd)


# -- others between two effects


async def a_sweep_between_any_two_effects_of_an_upload(folder: Path) -> None:
    async with opened(folder) as (store, effects):
        at, more = 1, True
        while more:
            content = f"layer {at}".encode()
            effects.interrupt(at, store.collector.sweep)
            await granted(store.push_blob(HERE, content, FIRST))
            await assert_readable(store, content)
            at, more = at + 1, len(effects.seen) >= at
        assert at > 5


async def an_upload_is_cancelled_between_any_two_effects_of_its_end(folder: Path) -> None:
    async with opened(folder) as (store, effects):
        for at in (1, 2):
            content = f"layer {at}".encode()
            upload = (await store.uploads.start(HERE, FIRST, Algorithm.SHA256)).id
            await store.uploads.append(HERE, FIRST, upload, body(content), None, None)

            async def cancel(upload: str = upload) -> None:
                await store.uploads.cancel(HERE, FIRST, upload)
                await store.collector.reap()
                await store.collector.sweep()

            effects.interrupt(at, cancel)
            refused = await refusal(store.uploads.finish(HERE, FIRST, upload, Digest.of(content), None))
            await assert_whole(store)
            assert isinstance(refused, RegistryError)
            assert refused.code is ErrorCode.BLOB_UPLOAD_UNKNOWN
        await store.collector.reap()
        await assert_settled(store)


async def a_blob_goes_between_any_two_effects_of_a_put(folder: Path) -> None:
    async with opened(folder) as (store, effects):
        for at in (1, 2):
            layer = f"layer {at}".encode()
            gone: list[bool] = []
            for content in (b"{}", layer):
                await store.push_blob(HERE, content, FIRST)

            async def take_away(layer: bytes = layer, gone: list[bool] = gone) -> None:
                gone.append(True)
                await store.blobs.delete(HERE, FIRST, Digest.of(layer))
                await store.collector.collect(HERE.registry_id)

            effects.interrupt(at, take_away)
            refused = await refusal(store.push(HERE, image(layer), f"v{at}", who=FIRST))
            await assert_whole(store)
            if gone:
                assert isinstance(refused, RegistryError), f"not the client's to know: {refused!r}"
                assert refused.code is ErrorCode.MANIFEST_BLOB_UNKNOWN
            else:
                assert refused is None


async def a_blob_comes_back_between_any_two_effects_of_its_collection(folder: Path) -> None:
    async with opened(folder) as (store, effects):
        at, more = 1, True
        while more:
            content = f"layer {at}".encode()
            await store.push_blob(HERE, content, FIRST)
            await store.blobs.delete(HERE, FIRST, Digest.of(content))

            async def push(content: bytes = content) -> None:
                await store.push_blob(HERE, content, SECOND)

            effects.interrupt(at, push)
            await granted(store.collector.collect(HERE.registry_id))
            await assert_whole(store)
            if more := len(effects.seen) >= at:
                await assert_readable(store, content)
            at += 1
        assert at > 6


# -- promises


async def a_promise_outlives_a_collection(folder: Path) -> None:
    """However a client was told that a blob is there: by HEAD, by a mount, at the end of its upload."""
    layer = b"a layer"
    async with opened(folder) as (store, _):
        await store.push_image(THERE, layer, tag="keeps", who=FIRST)
        await store.push_image(HERE, layer, who=FIRST)

        async def ask(content: bytes) -> None:
            await store.blobs.stat(HERE, SECOND, Digest.of(content))

        async def mount(content: bytes) -> None:
            assert await store.blobs.mount(HERE, SECOND, Digest.of(content), THERE)

        async def upload(content: bytes) -> None:
            await store.push_blob(HERE, content, SECOND)

        for be_told in (ask, mount, upload):
            for content in (b"{}", layer):
                await be_told(content)
            await _clear(store)
            await granted(store.push(HERE, image(layer), "v1", who=SECOND))
        await assert_whole(store)


async def a_promised_child_outlives_a_collection(folder: Path) -> None:
    async with opened(folder) as (store, _):
        child = await store.push_image(HERE, b"a layer", who=FIRST)
        await store.manifests.stat(HERE, SECOND, Digest.of(child))
        await _clear(store)
        await granted(store.push(HERE, index(child), "v1", who=SECOND))
        await assert_whole(store)


async def two_push_the_same_image_and_the_first_is_cleared(folder: Path) -> None:
    layer = b"a layer"
    async with opened(folder) as (store, _):
        for who in (FIRST, SECOND):
            for content in (b"{}", layer):
                await store.push_blob(HERE, content, who)
        await store.push(HERE, image(layer), "v1", who=FIRST)
        await _clear(store)
        await granted(store.push(HERE, image(layer), "v1", who=SECOND))
        await assert_whole(store)


async def a_duplicate_is_taken_out(folder: Path) -> None:
    async with opened(folder) as (store, _):
        for who in (FIRST, SECOND):
            await store.push_blob(HERE, b"a layer", who)
        await store.collector.reap()
        await assert_whole(store)
        await assert_settled(store)


async def _clear(store: Store) -> None:
    await store.manifests.untag(HERE, JANITOR, Tag("v1"))
    await store.collector.collect(HERE.registry_id)


# -- the end of the process between two effects


async def killed_between_any_two_effects_of_a_push(folder: Path) -> None:
    await _killed_everywhere(folder, _nothing, lambda store: store.push_image(HERE, b"a layer", who=FIRST), 11)


async def killed_between_any_two_effects_of_a_collection(folder: Path) -> None:
    async def prepare(store: Store) -> None:
        await store.push_image(HERE, b"a layer", who=FIRST)
        await store.manifests.untag(HERE, JANITOR, Tag("v1"))

    await _killed_everywhere(folder, prepare, lambda store: store.collector.collect(HERE.registry_id), 8)


async def killed_between_any_two_effects_of_a_withdrawal_and_its_healing(folder: Path) -> None:
    layer = b"a layer"

    async def prepare(store: Store) -> None:
        await store.push_image(HERE, layer, who=FIRST)
        [(key,)] = await store.core.db.fetch("SELECT key FROM blobs WHERE digest = $1", str(Digest.of(layer)))
        [file] = folder.rglob(f"*.{key}")
        file.write_bytes(layer.upper())

    async def withdraw_and_heal(store: Store) -> None:
        await scrub(store)
        await store.push_blob(HERE, layer, SECOND)
        await assert_readable(store, layer)

    await _killed_everywhere(folder, prepare, withdraw_and_heal, 7, found=scrub)


async def _nothing(_: Store) -> None: ...


async def _killed_everywhere(
    folder: Path, prepare: Step, step: Step, least: int, *, found: Step = assert_whole
) -> None:
    """Before each of at least so many effects, and after the last. The next process looks at what it has ``found``,
    cleans up, and can do the step."""

    async def killed(name: str, at: int, *, after: bool) -> bool:
        before = await _kill(folder / name, prepare, step, at, after=after)
        await _start(folder / name, found, step)
        return before

    count = 0
    while await killed(str(count), count + 1, after=False):
        count += 1
    assert count >= least
    assert await killed("unanswered", count, after=True)


async def _kill(folder: Path, prepare: Step, step: Step, at: int, *, after: bool) -> bool:
    """False: the step has fewer effects."""
    async with opened(folder) as (store, effects):
        await prepare(store)
        effects.crash(at, after=after)
        try:
            await step(store)
        except Crash:
            return True
    return False


async def _start(folder: Path, found: Step, step: Step) -> None:
    async with opened(folder) as (store, _):
        await found(store)
        await store.collector.reap()
        assert await store.collector.sweep() == 0, "I5: a file has lost its name"
        await granted(step(store))
        await store.collector.reap()
        await assert_settled(store)


# -- the backstop


async def the_database_refuses_an_edge_to_nothing(folder: Path) -> None:
    """Although the code's own check is too old: a manifest whose layer has gone meanwhile is not stored."""
    async with opened(folder) as (store, effects):
        for content in (b"{}", b"a layer"):
            await store.push_blob(HERE, content, FIRST)

        async def take_away() -> None:
            await store.blobs.delete(HERE, FIRST, Digest.of(b"a layer"))
            await store.collector.collect(HERE.registry_id)

        with pytest.MonkeyPatch.context() as patch:
            mistakes.no_recheck_at_put(patch)
            effects.interrupt(2, take_away)
            refused = await refusal(store.push(HERE, image(b"a layer"), "v1", who=FIRST))
        await assert_whole(store)
        assert isinstance(refused, DatabaseFailed)


async def the_database_keeps_a_blob_that_is_linked(folder: Path) -> None:
    """Although the collector does not ask who holds it."""
    async with opened(folder) as (store, _):
        await store.push_image(HERE, b"a layer", who=FIRST)
        with pytest.MonkeyPatch.context() as patch:
            mistakes.condemn_whatever(patch)
            refused = await refusal(store.collector.collect(HERE.registry_id))
        await assert_whole(store)
        assert isinstance(refused, DatabaseFailed)
        await assert_readable(store, b"a layer")
