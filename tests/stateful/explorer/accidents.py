"""What goes wrong, at any time and any number of times."""

from collections.abc import Iterator
from functools import cache

from .backups import Backups
from .clients import Clients
from .names import entries
from .rot import Scrub
from .scenarios import Scenario
from .state import Act, Change, Client, File, Key, Keys, Stage, State, Step, Table, change_key, halted, without_lease


class Store(Clients, Backups, Scrub):
    """The whole: clients, collectors, backups, scrubs and accidents over one state."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.accidents = cache(self.mishaps)

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that could happen next."""
        for number in range(len(state.clients)):
            yield from self.client(state, number)
        yield from self.runaways(state)
        yield from self.collector(state)
        yield from self.expiries(state)
        if self.scenario.backs_up:
            yield from self.backup(state)
        yield from self.rotting(state)
        for act, keys, digest in self.accidents(state.keys):
            yield Step(act, state.with_keys(keys), digest=digest)

    def expiries(self, state: State) -> Iterator[Step]:
        """A lease runs out, however early or late: only its holder's promise hangs on it (L14)."""
        for session, held in enumerate(state.leases):
            for entry in entries(held):
                clients = tuple(
                    Client(client.position, client.promised & ~entry.bit) if self.session(number) == session else client
                    for number, client in enumerate(state.clients)
                )
                leases = without_lease(state.leases, session, entry.bit)
                yield Step(Act.EXPIRE, state._replace(leases=leases, clients=clients), entry.bit, session)

    def mishaps(self, keys: Keys) -> tuple[Change, ...]:
        """Purged uploads, dead processes, impatient clients, power cuts (L2, L12)."""
        changes = [change for key in keys for change in self.mishaps_of(keys, key)]
        if any(key.file is File.WRITTEN for key in keys):
            changes.append(Change(Act.POWER_CUT, halted(keys, lost=File.WRITTEN)))
        return tuple(changes)

    def mishaps_of(self, keys: Keys, key: Key) -> Iterator[Change]:
        """What can happen to one key and its requests."""
        if key.table is Table.UPLOADS:
            yield Change(Act.PURGE, change_key(keys, key, key._replace(table=Table.TRASH)), key.digest)
        if key.stage or key.runaway:
            dead = key._replace(stage=Stage.IDLE, runaway=False)
            yield Change(Act.DIE, change_key(keys, key, dead), key.digest)
        if key.stage is Stage.FINALISE and self.scenario.impatient:
            alone = key._replace(stage=Stage.IDLE, runaway=True)
            yield Change(Act.GIVE_UP, change_key(keys, key, alone), key.digest)
