"""Ids sort by age, within a millisecond too."""

import time

import pytest

from regserver.model import ids


def test_ids_made_within_one_millisecond_sort_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(1_800_000_000_000_000_000, 1_800_000_000_001_000_000, 1_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    made = [ids.new_id("cred") for _ in range(1000)]
    assert made == sorted(set(made))
    assert {ids.id_ms(identity) for identity in made} == {1_800_000_000_000}
    assert all(ids.is_id("cred", identity) for identity in made)
