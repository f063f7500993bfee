"""The machine of test_store_machine.py, with two stores on one folder and one catalog."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from stateful.test_store_machine import StoreMachine
from support.store import Store


class TwoProcessesMachine(StoreMachine):
    """Two stores on one folder and one catalog, which know nothing of each other: each step is the next one's turn."""

    async def _open(self) -> None:
        self.stores: list[Store] = []
        await super()._open()
        first = self.opened
        await super()._open()
        self.opened.push_async_callback(first.aclose)

    @property
    def store(self) -> Store:  # type: ignore[override]
        self.stores.reverse()
        self.stores[0].now = max(store.now for store in self.stores)  # one clock for both
        return self.stores[0]

    @store.setter
    def store(self, opened: Store) -> None:
        self.stores.append(opened)


TestTwoProcessesMachine = TwoProcessesMachine.TestCase
TestTwoProcessesMachine.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
