"""Files that no table names are looked for after a start, and again and again."""

import asyncio
from pathlib import Path

import pytest

from regserver.content import housekeeping
from regserver.model.digest import Algorithm
from support.store import opened_store


@pytest.mark.parametrize(("pause", "left"), [(0.0, [0, 0, 0]), (1e6, [0, 1, 2])], ids=["due", "not due"])
async def test_a_file_that_no_table_names_goes_at_the_next_sweep_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float, left: list[int]
) -> None:
    async with opened_store(tmp_path) as store:
        stop, found = asyncio.Event(), list[int]()

        async def next_turn(stop: asyncio.Event, _: float) -> None:
            found.append(await store.files())
            await store.core.blobs.begin(f"{len(found):032x}", Algorithm.SHA256)
            if len(found) == len(left):
                stop.set()

        monkeypatch.setattr(housekeeping, "_sleep", next_turn)
        monkeypatch.setattr(housekeeping, "SWEEP_SECONDS", pause)
        await store.housekeeping.run(stop)
        assert found == left
