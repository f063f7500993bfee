"""The feed: whoever asks from wherever gets all that follows, from memory or from the catalog, and hears of it soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.content import events as feeds
from regserver.content.events import Chosen, Feed, Page
from regserver.storage.catalog.events import EventRow
from support.store import Store, opened_store, pusher, target

WAIT_SECONDS = 30.0  # longer than anything should take


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(tmp_path) as opened:
        yield opened


async def push(store: Store, count: int) -> None:
    for number in range(count):
        await store.push_image(target(), b"layer %d" % number, who=pusher("alice"))


async def ids(store: Store) -> list[int]:
    return [int(row[0]) for row in await store.core.db.fetch("SELECT id FROM events ORDER BY id")]


async def all_after(feed: Feed, place: int) -> list[int]:
    """From page to page, as a follower goes."""
    found: list[int] = []
    while (page := await feed.after(place)).rows:
        assert not page.lost
        found += [row.id for row in page.rows]
        place = page.place
    return found


async def test_what_follows_a_place_is_whole_wherever_it_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RECENT", 3)
    monkeypatch.setattr(feeds, "PAGE", 2)
    feed, stop = Feed(store.core), asyncio.Event()
    await push(store, 4)
    async with feed.followed():
        running = asyncio.create_task(feed.run(stop))
        await push(store, 7)
        every = await ids(store)
        async with asyncio.timeout(WAIT_SECONDS):
            while feed.last < every[-1]:
                await feed.news(feed.last, 1.0)
        for place in (0, *every):
            assert await all_after(feed, place) == [one for one in every if one > place]
    stop.set()
    await running


async def test_who_waits_is_woken_by_what_is_committed_elsewhere(store: Store) -> None:
    feed, stop = Feed(store.core), asyncio.Event()  # it is told of no commit
    async with feed.followed():
        running = asyncio.create_task(feed.run(stop))
        waiting = asyncio.create_task(feed.news(feed.last, WAIT_SECONDS))
        await push(store, 1)
        assert await waiting
        stop.set()
        await running
    assert not await feed.news(feed.last, 0.0)


async def test_who_comes_after_a_while_begins_with_the_present(store: Store) -> None:
    feed = Feed(store.core)
    async with feed.followed():
        assert feed.last == 0
    await push(store, 3)
    async with feed.followed(), feed.followed():
        assert feed.last == (await ids(store))[-1]


async def test_the_latest_are_so_many_and_end_with_the_newest(store: Store) -> None:
    feed = Feed(store.core)
    assert await feed.latest(3) == Page([], 0)
    await push(store, 5)
    every = await ids(store)
    page = await feed.latest(3)
    assert [row.id for row in page.rows] == every[-3:]
    assert page.place == every[-1]


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        (Chosen(), True),
        (Chosen(types=frozenset({"pushed", "quota"})), True),
        (Chosen(types=frozenset({"quota"})), False),
        (Chosen(registry="a"), True),
        (Chosen(registry="reg_1"), False),
        (Chosen(registry_id="reg_1"), True),
        (Chosen(registry_id="reg_2"), False),
        (Chosen(visible=frozenset({"reg_1"})), True),
        (Chosen(visible=frozenset({"reg_2"})), False),
        (Chosen(visible=frozenset()), False),
        (Chosen(registry="a", visible=frozenset({"reg_2"})), False),
    ],
)
def test_an_event_is_taken_if_all_that_is_chosen_fits(chosen: Chosen, taken: bool) -> None:
    row = EventRow(1, 0, "pushed", "reg_1", "a", "api", "v1", "sha256:0", "admin", "req_1", None)
    assert chosen.takes(row) is taken
