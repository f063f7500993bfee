"""Clocks that move when they are told to, and a wall clock that is a year off from one moment to the next."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo

import jwt.api_jwt
import pytest

YEAR_SECONDS = 365 * 86400.0


class Hands:
    """Seconds, as ``time.monotonic`` gives them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class WallClock:
    """What `time.time`, `time.time_ns` and the JWT library read. The monotonic clock stays what it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        seconds, nanoseconds, clock = time.time, time.time_ns, self

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + timedelta(seconds=clock.ahead)

        monkeypatch.setattr(time, "time", lambda: seconds() + self.ahead)
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(self.ahead) * 10**9)
        monkeypatch.setattr(jwt.api_jwt, "datetime", Shifted)

    def jump(self, seconds: float) -> None:
        self.ahead += seconds
