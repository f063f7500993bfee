"""One epoch clock for many processes on many machines: no epoch is shorter than it says (L18), and none lasts for ever.

Each machine has a monotonic clock that began some other time. Processes come, look at the clock when they please, and
die; true time only moves forward. The catalog is the real one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regserver.content.clock import Clock, boot_id
from regserver.storage.catalog import clock
from regserver.storage.sql.port import DatabaseFailed, Transaction
from support.store import Store, opened_store

EPOCH = 60_000  # milliseconds, as the settings have it
MACHINES = 3


@dataclass
class World:
    """``now``: true milliseconds. ``begun``: when each epoch did."""

    store: Store
    now: int = 0
    begun: dict[int, int] = field(default_factory=dict)

    def process(self, machine: int) -> Clock:
        """A machine's monotonic clock says nothing about another's; all of a machine's processes share it."""
        return Clock(self.store.core, f"boot {machine}", lambda: self.now + (5, 0, 10**9)[machine])

    async def look(self, process: Clock) -> int:
        await process.tick()
        epoch = await clock.epoch(self.store.core.db)
        self.begun.setdefault(epoch, self.now)
        return epoch


# What happens: true time passes, then a process of that machine looks, one that has just come or the one of before.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, EPOCH // 4, EPOCH // 2, EPOCH - 1, EPOCH, 3 * EPOCH]),
        st.integers(0, MACHINES - 1),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS)
def test_however_many_look_at_it_an_epoch_lasts_as_long_as_it_says(steps: Sequence[tuple[int, int, bool]]) -> None:
    async def run(store: Store) -> None:
        world = World(store)
        running = [world.process(machine) for machine in range(MACHINES)]
        for passed, machine, is_new in steps:
            world.now += passed
            if is_new:
                running[machine] = world.process(machine)
            await world.look(running[machine])
        assert sorted(world.begun) == list(range(1, len(world.begun) + 1)), "none is left out"
        begun = [world.begun[epoch] for epoch in sorted(world.begun)]
        assert all(later - earlier >= EPOCH for earlier, later in pairwise(begun))

    in_a_store(run)


@pytest.mark.parametrize("machines", [1, 2, 3])
def test_it_goes_on_while_processes_on_several_machines_look_in_turn(machines: int) -> None:
    async def run(store: Store) -> None:
        world = World(store)
        running = [world.process(machine) for machine in range(machines)]
        for turn in range(40 * machines):  # each of them looks four times in an epoch
            world.now += EPOCH // (4 * machines)
            await world.look(running[turn % machines])
        assert max(world.begun) >= 8, "of ten"

    in_a_store(run)


def test_it_goes_on_where_the_processes_of_one_machine_never_live_long() -> None:
    async def run(store: Store) -> None:
        world = World(store)
        for _ in range(40):
            world.now += EPOCH // 4
            await world.look(world.process(0))
        assert max(world.begun) >= 8, "of ten"

    in_a_store(run)


def test_a_machine_that_starts_anew_needs_no_more_than_an_epoch_to_go_on() -> None:
    async def run(store: Store) -> None:
        world = World(store)
        await world.look(world.process(2))
        after = world.process(0)  # its clock is far behind
        for _ in range(5):
            world.now += EPOCH // 4
            await world.look(after)
        assert max(world.begun) == 2

    in_a_store(run)


async def test_a_process_that_could_not_commit_believes_nothing_it_saw(tmp_path: Path) -> None:
    async with opened_store(tmp_path) as store:
        world = World(store)
        slow, other = world.process(0), world.process(1)
        await world.look(slow)
        world.now += EPOCH
        with broken(store), pytest.raises(DatabaseFailed):
            await slow.tick()  # to epoch 2, which never was
        world.now += EPOCH // 2
        await world.look(other)
        await world.look(other)
        world.now += EPOCH
        await world.look(other)  # epoch 2 begins
        world.now += EPOCH // 2
        assert await world.look(slow) == 2


def test_the_boot_is_named_with_the_namespace_whose_clock_is_read() -> None:
    assert boot_id() == boot_id()
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in boot_id()


def in_a_store(run: Callable[[Store], Awaitable[None]]) -> None:
    async def opened() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opened_store(Path(folder)) as store:
                await unmake_the_clock(store)
                await run(store)

    asyncio.run(opened())


async def unmake_the_clock(store: Store) -> None:
    """What opened the store has looked at the clock of the machine that the test runs on."""

    async def body(tx: Transaction) -> None:
        await tx.execute("DELETE FROM clock")

    await store.core.db.write(body)


@contextmanager
def broken(store: Store) -> Iterator[None]:
    """The transaction is carried out and then not committed."""
    write = store.core.db.write

    async def refuse(body: Callable[[Transaction], Awaitable[Any]]) -> Any:
        async def undone(tx: Transaction) -> None:
            await body(tx)
            raise DatabaseFailed("the disk is full")

        return await write(undone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.core.db, "write", refuse)
        yield
