"""A scrub reads no faster than it may, and makes way for requests."""

import asyncio
import math

import pytest

from regserver.content.pace import Slowly, Stopping


class Time:
    """A clock that waiting moves, by so much more than was asked for as the loop is ``late``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.late = 0.0
        self.waits: list[float] = []

    def read(self) -> float:
        return self.now

    async def wait(self, stop: asyncio.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds + self.late
        self.late = 0.0
        return stop.is_set()


def slowly(time: Time, rate: int, stop: asyncio.Event | None = None) -> Slowly:
    return Slowly(rate, stop or asyncio.Event(), clock=time.read, wait=time.wait)


async def test_so_many_bytes_take_so_many_seconds() -> None:
    time = Time()
    pace = slowly(time, 1000)
    for _ in range(10):
        await pace(500)
    assert time.now == pytest.approx(105.0)


async def test_time_that_passed_without_reading_is_not_made_up_for() -> None:
    time = Time()
    pace = slowly(time, 1000)
    await pace(1000)
    time.now += 60
    await pace(1000)
    assert time.waits == [pytest.approx(1.0), pytest.approx(1.0)]


@pytest.mark.parametrize(("late", "rest"), [(0.02, 0.2), (5.0, 1.0)])
async def test_a_loop_that_comes_back_late_is_left_alone_for_longer(late: float, rest: float) -> None:
    time = Time()
    time.late = late
    await slowly(time, 1000)(100)
    assert time.waits == [pytest.approx(0.1), pytest.approx(rest)]


async def test_where_no_request_is_served_being_late_means_nothing() -> None:
    time = Time()
    time.late = 5.0
    await Slowly(1000, asyncio.Event(), late=math.inf, clock=time.read, wait=time.wait)(100)
    assert time.waits == [pytest.approx(0.1)]


async def test_a_server_that_stops_waits_for_no_scrub() -> None:
    stop = asyncio.Event()
    pace = Slowly(1, stop)
    waiting = asyncio.create_task(pace(10**9))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(Stopping):
        await waiting
