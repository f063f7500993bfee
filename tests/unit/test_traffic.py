"""Background work pauses while clients are served, and only then."""

import asyncio
import time

import pytest

from regserver.content import traffic
from regserver.content.traffic import Traffic


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


async def test_nobody_there_means_no_pause(pauses: list[float]) -> None:
    here = Traffic()
    with here.request(), here.request():
        pass
    await here.rest(time.monotonic() - 1)
    assert pauses == []


async def test_a_client_gets_as_long_as_the_step_took_and_no_longer_than_the_bound(pauses: list[float]) -> None:
    here = Traffic()
    with here.request():
        with here.request():
            pass
        assert here.is_busy
        await here.rest(time.monotonic() - traffic.REST_SECONDS / 4)
        await here.rest(time.monotonic() - 60)
    assert traffic.REST_SECONDS / 4 <= pauses[0] < traffic.REST_SECONDS
    assert pauses[1:] == [traffic.REST_SECONDS]


async def test_a_request_that_fails_is_over_too() -> None:
    here = Traffic()
    with pytest.raises(ValueError, match="refused"), here.request():
        raise ValueError("refused")
    assert not here.is_busy
