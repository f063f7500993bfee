"""Parts of `--workers`: shares of limits, the keeper's lock, a place that is filled again and again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from regserver.content.core import Health
from regserver.storage.keeper import KeeperLock
from regserver.workers import channel, place, supervisor
from regserver.workers.doors import Door, open_doors
from regserver.workers.place import Place
from regserver.workers.shares import share
from regserver.workers.supervisor import Supervisor
from support.registry import make_settings

# Workers of these tests: descriptor 1 of the arguments is the channel.
READY = "import socket, sys; end = socket.socket(fileno=int(sys.argv[1])); end.recv(65536); end.send(b'ready');"
WAITS = READY + "end.recv(65536)"


@pytest.mark.parametrize("limit", [0, 1, 3, 20, 10_001])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_shares_of_a_limit_are_the_limit_or_one_each(tmp_path: Path, limit: int, workers: int) -> None:
    settings = make_settings(tmp_path, workers=workers, failed_logins_per_minute=limit, requests_per_second=limit)
    shares = [share(settings, index) for index in range(workers)]
    for parts in (
        [one.failed_logins_per_minute for one in shares],
        [one.requests_per_second for one in shares],
    ):
        assert sum(parts) == (max(limit, workers) if limit else 0)
        assert limit == 0 or min(parts) >= 1
    assert sum(one.max_connections for one in shares) == settings.max_connections


def test_one_holds_the_lock_until_it_gives_it_back_and_then_another_may(tmp_path: Path) -> None:
    one, other = KeeperLock(tmp_path), KeeperLock(tmp_path)
    assert one.take()
    assert not other.take()
    assert one.take(), "it has it"
    one.release()
    assert other.take()
    assert not one.take()
    other.release()
    other.release()
    assert one.take()
    one.release()


def test_the_first_reason_is_told_to_the_others_once() -> None:
    told: list[str] = []
    health = Health(tell=told.append)
    health.fail("the disk")
    health.fail("the disk again")
    assert told == ["the disk"]
    assert health.failure == "the disk"


async def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Place:
    monkeypatch.setattr(place, "command", lambda *arguments: [sys.executable, "-c", code, *arguments])
    monkeypatch.setattr(place, "LEAST_PAUSE", 0.01)
    (door,) = open_doors("127.0.0.1", 0, 1)
    return Place(0, make_settings(tmp_path), door, lambda _: None)


async def test_who_ends_early_again_and_again_is_waited_for_longer_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = await started(tmp_path, monkeypatch, READY)
    pauses: list[float] = []

    async def rest(code: int, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 5:
            filled._ending.set()

    monkeypatch.setattr(filled, "_rest", rest)
    assert await filled.keep(lambda: True) == 1
    assert pauses == [0.0, 0.01, 0.02, 0.04, 0.08]
    await filled.end()


async def test_who_served_for_long_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = await started(tmp_path, monkeypatch, READY)
    monkeypatch.setattr(place, "STEADY_SECONDS", 0.0)
    pauses: list[float] = []

    async def rest(code: int, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 3:
            filled._ending.set()

    monkeypatch.setattr(filled, "_rest", rest)
    await filled.keep(lambda: True)
    assert pauses == [0.0] * 3
    await filled.end()


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(7)", 7), ("raise SystemExit(0)", 1)])
async def test_a_first_worker_that_cannot_start_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: int
) -> None:
    filled = await started(tmp_path, monkeypatch, code)
    assert await filled.keep(lambda: True) == expected
    await filled.end()


async def test_what_one_could_not_sync_holds_for_those_who_come_later_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of this test says what it has heard by its exit code."""
    heard = READY + "sys.exit(9 if end.recv(65536) == b'failed the disk' else 8)"
    filled = await started(tmp_path, monkeypatch, heard)
    whole = Supervisor(make_settings(tmp_path))
    whole._places = [filled]
    whole._heard(channel.FAILED + b"the disk")
    codes: list[int] = []

    async def rest(code: int, pause: float) -> None:
        codes.append(code)
        filled._ending.set()

    monkeypatch.setattr(filled, "_rest", rest)
    await filled.keep(lambda: True)
    await filled.end()
    assert codes == [9]


async def test_a_worker_that_does_not_go_is_killed_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = await started(tmp_path, monkeypatch, WAITS + "; import time; time.sleep(1000)")
    monkeypatch.setattr(supervisor, "MARGIN_SECONDS", 0.1)
    whole = Supervisor(make_settings(tmp_path, drain_seconds=0))
    whole._places = [filled]
    keeping = asyncio.create_task(filled.keep(lambda: True))
    await filled.ready.wait()
    await whole._end()
    assert await keeping == 1


def test_doors_that_share_a_port_open_again_on_the_same_one() -> None:
    doors = open_doors("localhost", 0, 3)
    try:
        ports = {one.getsockname()[1] for one in doors[0].sockets}
        assert all({one.getsockname()[1] for one in door.sockets} == ports for door in doors)
        doors[1].close()
        assert doors[1].descriptors == []
        doors[1].open()
        assert {one.getsockname()[1] for one in doors[1].sockets} == ports
    finally:
        for door in doors:
            door.close()


def test_a_port_that_somebody_listens_on_is_refused_even_if_that_one_would_share_it() -> None:
    taken: Door
    (taken,) = open_doors("127.0.0.1", 0, 1)
    try:
        taken.sockets[0].listen()
        with pytest.raises(OSError, match="in use"):
            open_doors("127.0.0.1", taken.sockets[0].getsockname()[1], 2)
    finally:
        taken.close()
