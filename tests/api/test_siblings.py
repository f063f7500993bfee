"""Processes that serve one address count together: whoever is scraped tells what all of them have counted."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from regserver.counting import Cache, Numbers
from regserver.web import siblings
from regserver.web.siblings import Siblings
from support.registry import ADMIN_HEADERS, served_app


def counted(times: int) -> Numbers:
    numbers = Numbers()
    for number in range(times):
        numbers.answer("GET", "/v2/", 200, number / 100, 3, 5)
        numbers.cached(Cache.TOKENS, hit=bool(number))
        numbers.committed(number + 1, 0.002)
    numbers.ended(completed=True, freed_bytes=100 * times, blobs=times, manifests=1)
    return numbers


def make_sibling(root: Path, number: int, times: int) -> Siblings:
    """As in a process of its own."""
    numbers = counted(times)
    sibling = Siblings(root, lambda: numbers.dump(running=1, followers=times))
    sibling._own = sibling._folder / str(number)
    return sibling


async def test_what_all_have_counted_is_added_up_whoever_is_asked(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 40)  # too long a name for a socket
    root.mkdir()
    family = [make_sibling(root, number, times) for number, times in ((1, 2), (2, 3), (3, 4))]
    for sibling in family:
        await sibling.open()
    for sibling in family:
        numbers = await sibling.all()
        row = numbers.answered["GET", "/v2/", "2xx"]
        assert (row.seconds.count, row.received, row.sent) == (9, 27, 45)
        assert row.seconds.total == pytest.approx(0.01 + 0.03 + 0.06)
        assert numbers.caches[Cache.TOKENS] == [3, 6]
        assert (numbers.group_sizes.count, numbers.group_sizes.total) == (9, 3 + 6 + 10)
        assert (numbers.collected.completed, numbers.collected.freed_bytes) == (3, 900)
        assert (numbers.running, numbers.followers) == (3, 9)
    for sibling in family:
        await sibling.close()
    assert list((root / "siblings").iterdir()) == []


async def test_who_has_gone_or_says_nothing_sensible_is_left_out(tmp_path: Path) -> None:
    sibling, stranger = make_sibling(tmp_path, 1, 2), make_sibling(tmp_path, 2, 3)
    await sibling.open()
    stranger._tell = lambda: {"answered": [], "caches": {"unheard of": [1, 1]}}
    await stranger.open()
    killed = tmp_path / "siblings" / "3"
    with socket.socket(socket.AF_UNIX) as left:
        folder = os.open(killed.parent, os.O_PATH)
        left.bind(f"/proc/self/fd/{folder}/3")
        os.close(folder)
    assert (await sibling.all()).dump(running=1, followers=2) == counted(2).dump(running=1, followers=2)
    assert not killed.exists()
    await stranger.close()
    await sibling.close()


async def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    sibling = make_sibling(tmp_path, 1, 1)
    await sibling.open()
    assert (tmp_path / "siblings").stat().st_mode & 0o077 == 0
    await sibling.close()


async def test_a_scrape_tells_of_the_sibling_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "wanted", lambda _: True)
    async with served_app(root) as client:
        other = make_sibling(root, 1, 7)
        await other.open()
        async with client.get("/metrics", headers=ADMIN_HEADERS) as answer:
            text = await answer.text()
        await other.close()
    assert 'regserver_http_requests_total{method="GET",route="/v2/",status="2xx"} 7.0' in text
    assert "regserver_http_requests_in_flight 2.0" in text
    assert json.dumps(sorted(path.name for path in (root / "siblings").iterdir())) == "[]"


async def test_one_process_alone_has_no_socket(root: Path) -> None:
    async with served_app(root) as client:
        async with client.get("/metrics", headers=ADMIN_HEADERS) as answer:
            assert answer.status == 200
        assert not (root / "siblings").exists()
