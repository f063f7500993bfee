"""Retention at work: on its turn, by epochs, in its own transaction; and what a policy keeps from the collector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regserver.content import retention as retaining
from regserver.content.collector import Collector
from regserver.content.explain import Explain
from regserver.content.images import Images
from regserver.content.purge import Purge
from regserver.content.registries import Changes, Registries
from regserver.content.retention import DAY, Retentions
from regserver.content.undo import Undo
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Tag
from regserver.storage.catalog import policies
from regserver.storage.sql.port import Reader, Transaction
from support.store import Store, image, index, opened_store, pusher, target

API = target("my/api")
PACE = 600  # seconds between two turns
EPOCHS_OF_A_DAY = DAY // 3600 + 1  # with epochs of an hour, and one for the edge


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path, retention_seconds=PACE, epoch_seconds=3600, untagged_seconds=0) as opened:
        await opened.push_blob(API, b"{}")
        yield opened


async def set_policy(store: Store, **changes: Any) -> None:
    async def no_robot(*_: object) -> None:
        return

    await Registries(store.core, no_robot, lambda: None).update("reg_my", Changes(policy=changes))


async def push_tags(store: Store, *names: str) -> list[bytes]:
    """An image of its own for each, in this order; their manifests."""
    manifests = [image(annotations={"tag": name}) for name in names]
    for name, content in zip(names, manifests, strict=True):
        await store.push(API, content, name)
    return manifests


async def tags_of(store: Store) -> list[str]:
    return (await store.listing.tags(API, 100, "")).items


async def retain(store: Store) -> int:
    return await Retentions(store.core).run("reg_my")


async def events(store: Store, tag: str) -> list[tuple[str | None, str]]:
    found, _ = await Undo(store.core).history(API, Tag(tag), 10, 0)
    return [(event.row.digest, event.row.subject) for event in found]


async def test_retention_keeps_the_last_of_each_image(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 2})
    await push_tags(store, "a", "b", "c", "d")
    await store.push_image(target("my/web"), tag="only")
    assert await retain(store) == 2
    assert await tags_of(store) == ["c", "d"]
    assert (await store.listing.tags(target("my/web"), 100, "")).items == ["only"]


async def test_a_push_of_the_same_digest_makes_a_tag_the_last(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    first, _ = await push_tags(store, "a", "b")
    await store.push(API, first, "a")
    await retain(store)
    assert await tags_of(store) == ["a"]


async def test_a_wall_clock_that_jumps_back_changes_no_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "old")
    monkeypatch.setattr("regserver.content.manifests.now_ms", lambda: 0)
    await push_tags(store, "new")
    await retain(store)
    assert await tags_of(store) == ["new"]


async def test_days_are_counted_in_epochs_whatever_the_wall_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_policy(store, retention={"keep_days": 1})
    await push_tags(store, "a")
    monkeypatch.setattr("regserver.content.retention.now_ms", lambda: 10**15)
    await store.pass_epochs(EPOCHS_OF_A_DAY)
    assert await retain(store) == 0
    await store.pass_epochs(1)
    assert await retain(store) == 1


@pytest.mark.parametrize("by_digest", [False, True])
async def test_what_was_pulled_within_the_days_stays(store: Store, by_digest: bool) -> None:
    await set_policy(store, retention={"keep_days": 1})
    first, _ = await push_tags(store, "a", "b")
    await store.pass_epochs(EPOCHS_OF_A_DAY)
    await store.manifests.get(API, pusher(), Digest.of(first) if by_digest else Tag("a"))
    await store.manifests.stat(API, pusher(), Tag("b"))
    await store.pass_epochs(1)
    await retain(store)
    assert await tags_of(store) == ["a"]


async def test_a_pull_of_what_an_index_lists_counts_for_the_index(store: Store) -> None:
    await set_policy(store, retention={"keep_days": 1})
    (child, _) = await push_tags(store, "child", "other")
    await store.push(API, index(child), "index")
    await store.pass_epochs(EPOCHS_OF_A_DAY)
    await store.manifests.get(API, pusher(), Digest.of(child))
    await store.pass_epochs(1)
    await retain(store)
    assert await tags_of(store) == ["child", "index"]


async def test_what_was_fetched_last_is_noted_and_written_at_the_next_turn(store: Store) -> None:
    await push_tags(store, "a")
    await store.manifests.get(API, pusher(), Tag("a"))
    images = Images(store.core)
    assert await images.last_pulled(API, Tag("a")) is None
    await store.housekeeping.run_once()
    assert await images.last_pulled(API, Tag("a")) is not None
    assert await images.last_pulled(API) == await images.last_pulled(API, Tag("a"))
    assert await store.core.pulls.flush(store.core.db) == 0


async def test_a_pull_of_what_is_deleted_meanwhile_is_dropped(store: Store) -> None:
    (content,) = await push_tags(store, "a")
    await store.manifests.get(API, pusher(), Tag("a"))
    await store.manifests.delete(API, pusher(), Digest.of(content))
    await store.core.pulls.flush(store.core.db)
    assert await store.core.db.fetch("SELECT * FROM manifest_pulls") == []


async def test_a_manifest_that_was_pulled_can_go(store: Store) -> None:
    (content,) = await push_tags(store, "a")
    await store.manifests.get(API, pusher(), Tag("a"))
    await store.core.pulls.flush(store.core.db)
    await store.manifests.delete(API, pusher(), Digest.of(content))
    assert await store.core.db.fetch("SELECT * FROM manifest_pulls") == []


async def test_what_retention_deleted_is_in_the_history_and_can_be_restored(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    first, _ = await push_tags(store, "a", "b")
    await retain(store)
    assert await events(store, "a") == [(None, "retention"), (str(Digest.of(first)), "alice")]
    await Undo(store.core).restore_tag(API, pusher(), Tag("a"))
    assert await tags_of(store) == ["a", "b"]
    assert await retain(store) == 1
    assert await tags_of(store) == ["a"], "restoring is naming it anew"


async def test_an_immutable_tag_outlives_every_retention(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1}, immutable_tags={"patterns": ["v*"]})
    await push_tags(store, "v1", "x", "y")
    await retain(store)
    assert await tags_of(store) == ["v1", "y"]


async def test_a_signature_lives_as_long_as_what_it_signs(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    first, _ = await push_tags(store, "a", "b")
    signature = f"sha256-{str(Digest.of(first)).partition(':')[2]}.sig"
    await push_tags(store, signature)
    await retain(store)
    assert await tags_of(store) == ["b", signature], "it takes no place among the last, and its image is still there"
    await store.collector.collect("reg_my")
    await retain(store)
    assert await tags_of(store) == ["b"]


# -- turns


async def test_a_registry_has_its_turn_once_in_a_while(store: Store) -> None:
    retentions, turn = Retentions(store.core), store.core.epochs(PACE)
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")
    for _ in range(turn - 1):
        await store.pass_epochs(1)
        assert await retentions.run_due() == 0, "a policy that was just set waits: it may be a slip"
    await store.pass_epochs(1)
    assert await retentions.run_due() == 1
    await push_tags(store, "c")
    assert await retentions.run_due() == 0
    await store.pass_epochs(turn)
    assert await retentions.run_due() == 1
    assert await tags_of(store) == ["c"]


async def test_a_turn_is_part_of_housekeeping(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")
    await store.pass_epochs(store.core.epochs(PACE))
    await store.housekeeping.run_once()
    assert await tags_of(store) == ["b"]


async def test_a_policy_that_cannot_be_read_deletes_nothing_and_holds_up_nobody(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")

    async def damage(tx: Transaction) -> None:
        await tx.execute("INSERT INTO policies VALUES ('reg_other', NULL, '{\"keep_last\": 0}', 0, 0)")

    await store.core.db.write(damage)
    await store.pass_epochs(store.core.epochs(PACE))
    assert await Retentions(store.core).run_due() == 1
    assert await policies.due(store.core.db, 0, 10) == []


async def test_without_retention_no_turn_comes(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await set_policy(store, retention=None, keep_untagged=True)
    await push_tags(store, "a", "b")
    await store.pass_epochs(1000)
    assert await Retentions(store.core).run_due() == 0
    assert await tags_of(store) == ["a", "b"]


async def test_a_registry_that_is_deleted_is_left_to_the_purge(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1}, immutable_tags={"patterns": ["*"], "except": ["a"]})
    await push_tags(store, "a", "b")
    await store.manifests.get(API, pusher(), Tag("a"))
    await store.core.pulls.flush(store.core.db)
    before = await store.core.db.fetch("SELECT count(*) FROM tag_events")

    async def no_robot(*_: object) -> None:
        return

    await Registries(store.core, no_robot, lambda: None).delete("reg_my", force=True)
    assert await retain(store) == 0
    assert await store.core.db.fetch("SELECT count(*) FROM tag_events") == before
    assert await Purge(store.core, Collector(store.core)).run_once() == 1
    left = [await store.core.db.fetch(f"SELECT * FROM {table}") for table in ("policies", "manifest_pulls", "tags")]
    assert left == [[], [], []]


# -- what happens between the plan and the deletion


class Meddling:
    """The database, with somebody else at work after the first long read."""

    def __init__(self, store: Store, meddle: Callable[[], Awaitable[object]]) -> None:
        self._db = store.core.db
        self._meddle: Callable[[], Awaitable[object]] | None = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def read(self, body: Callable[[Reader], Awaitable[Any]]) -> Any:
        answer = await self._db.read(body)
        meddle, self._meddle = self._meddle, None
        if meddle is not None:
            await meddle()
        return answer


async def retain_while(store: Store, meddle: Callable[[], Awaitable[object]]) -> None:
    core = retaining.Core(Meddling(store, meddle), store.core.blobs, store.core.settings, pulls=store.core.pulls)  # type: ignore[arg-type]
    await Retentions(core).run("reg_my")


async def test_a_tag_that_is_pushed_again_meanwhile_stays(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    first, _ = await push_tags(store, "a", "b")
    await retain_while(store, lambda: store.push(API, first, "a"))
    assert await tags_of(store) == ["a"], "now it is the last, and the other one is not"


async def test_a_tag_that_moves_up_because_others_are_deleted_meanwhile_stays(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")
    await retain_while(store, lambda: store.manifests.untag(API, pusher(), Tag("b")))
    assert await tags_of(store) == ["a"]


async def test_a_policy_that_is_eased_meanwhile_counts(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")
    await retain_while(store, lambda: set_policy(store, retention={"keep_last": 2}))
    assert await tags_of(store) == ["a", "b"]


async def test_a_tag_that_becomes_immutable_meanwhile_stays(store: Store) -> None:
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b")
    await retain_while(store, lambda: set_policy(store, immutable_tags={"patterns": ["a"]}))
    assert await tags_of(store) == ["a", "b"]


async def test_what_is_pulled_and_written_down_meanwhile_stays(store: Store) -> None:
    await set_policy(store, retention={"keep_days": 1})
    await push_tags(store, "a", "b")
    await store.pass_epochs(EPOCHS_OF_A_DAY + 1)

    async def pull() -> None:
        await store.manifests.get(API, pusher(), Tag("a"))
        await store.core.pulls.flush(store.core.db)

    await retain_while(store, pull)
    assert await tags_of(store) == ["a"]


async def test_more_than_a_batch_goes_in_several(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retaining, "BATCH", 2)
    await set_policy(store, retention={"keep_last": 1})
    await push_tags(store, "a", "b", "c", "d", "e", "f")
    assert await retain(store) == 5
    assert await tags_of(store) == ["f"]


# -- the collector


async def test_a_registry_that_keeps_untagged_manifests_loses_none(store: Store) -> None:
    await set_policy(store, keep_untagged=True)
    (first,) = await push_tags(store, "a")
    await store.manifests.untag(API, pusher(), Tag("a"))
    never_tagged = image(annotations={"never": "tagged"})
    await store.push(API, never_tagged, who=pusher("gone"))
    await store.pass_epochs(1000)
    forecast = await Explain(store.core).forecast("reg_my")
    report = await store.collector.collect("reg_my")
    assert (forecast.manifests, forecast.blobs, report.manifests_deleted, report.blobs_deleted) == ([], [], 0, 0)
    for content in (first, never_tagged):
        assert (await store.manifests.get(API, pusher(), Digest.of(content)))[1] == content
        why = await Explain(store.core).why("reg_my", Digest.of(content))
        assert (why.kept, why.reason, why.seconds) == (True, "keep_untagged", None)


async def test_what_was_kept_untagged_goes_once_the_policy_does(store: Store) -> None:
    await set_policy(store, keep_untagged=True)
    await push_tags(store, "a")
    await store.manifests.untag(API, pusher(), Tag("a"))
    await store.pass_epochs(1000)
    await set_policy(store, keep_untagged=False)
    forecast = await Explain(store.core).forecast("reg_my")
    report = await store.collector.collect("reg_my")
    assert len(forecast.manifests) == report.manifests_deleted == 1


async def test_keeping_untagged_manifests_is_each_registrys_own_affair(store: Store) -> None:
    await set_policy(store, keep_untagged=True)
    other = target("other/api")
    await store.push_image(other, b"layer")
    await store.manifests.untag(other, pusher(), Tag("v1"))
    await store.pass_epochs(1000)
    assert (await store.collector.collect("reg_other")).manifests_deleted == 1


async def test_a_manifest_deleted_by_name_goes_even_where_untagged_ones_are_kept(store: Store) -> None:
    await set_policy(store, keep_untagged=True)
    (content,) = await push_tags(store, "a")
    await store.manifests.delete(API, pusher(), Digest.of(content))
    with pytest.raises(RegistryError) as refused:
        await store.manifests.get(API, pusher(), Digest.of(content))
    assert refused.value.code is ErrorCode.MANIFEST_UNKNOWN


# -- undo


async def test_an_image_comes_back_whole_after_the_clock_was_set_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_tags(store, "early", "a", "b")
    await store.manifests.untag(API, pusher(), Tag("early"))
    monkeypatch.setattr("regserver.content.images.now_ms", lambda: 1000)
    await Images(store.core).delete(API, pusher())
    assert (await Undo(store.core).restore_image(API, pusher())).restored == ["a", "b"]
