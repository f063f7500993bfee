"""Mark and sweep, the reaper, and the sweep of nameless files.

No step hands anything to the next: so these steps stand for any number of collectors, in any number of processes,
killed anywhere, with a mark however old. A mark only chooses which of them to try (L13).
"""

from collections.abc import Iterator
from functools import cache

from .names import entries
from .scenarios import Scenario
from .state import Act, Change, File, Key, Keys, State, Step, Table, change_key
from .uploads import Uploads


class Collector(Uploads):
    """Manifests, then links, then blobs; files only after the commit that gave them up."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.reapings = cache(self.reap_and_sweep)  # a matter of the keys alone, so it is worked out once for each set

    def collector(self, state: State) -> Iterator[Step]:
        """Everything that some collector could do next."""
        for manifest in entries(state.manifests):
            if gone := self.dead(state, manifest):
                yield Step(Act.DROP_MANIFESTS, state._replace(manifests=state.manifests & ~gone), gone)
        yield from self.drop_links(state)
        for key in state.keys:
            if key.table is Table.BLOBS:
                for change in self.condemn(state.keys, key, self.unheld(state, key.digest)):
                    yield Step(change.act, state.with_keys(change.keys), digest=change.digest)
        for act, keys, digest in self.reapings(state.keys):
            yield Step(act, state.with_keys(keys), digest=digest)

    def drop_links(self, state: State) -> Iterator[Step]:
        """One transaction for each: no manifest of that repository uses it, no lease there holds it (L5)."""
        for blob in entries(state.links):
            if self.unused(state, blob):
                keys = self.dropping(state.keys, blob.reference)
                yield Step(Act.DROP_LINK, state._replace(links=state.links & ~blob.bit, keys=keys), blob.bit)

    def dropping(self, keys: Keys, _: str) -> Keys:
        """Dropping a link leaves no note for later: condemning looks for itself (L13)."""
        return keys

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        """One transaction: nobody holds it, so its row goes and its key into trash (L5)."""
        if unheld:
            condemned = key._replace(table=Table.TRASH, noted=False)
            yield Change(Act.CONDEMN, change_key(keys, key, condemned), key.digest)

    def reap_and_sweep(self, keys: Keys) -> tuple[Change, ...]:
        """All that can happen to trash and to nameless files."""
        changes: list[Change] = []
        for key in keys:
            if key.table is Table.TRASH:
                changes += self.reap(keys, key)
            changes += self.sweep(keys, key)
        return tuple(changes)

    def reap(self, keys: Keys, key: Key) -> Iterator[Change]:
        """After that commit: unlink, then forget. Another may have unlinked it, or the unlink came undone (L6)."""
        if key.file:
            yield Change(Act.UNLINK, self.unlink(keys, key), key.digest)
        yield Change(Act.FORGET, change_key(keys, key, key._replace(table=Table.NONE)), key.digest)

    def sweep(self, keys: Keys, key: Key) -> Iterator[Change]:
        """A file that was listed and that no table names (L7)."""
        if key.file and self.nameless(key):
            yield Change(Act.SWEEP, self.unlink(keys, key), key.digest)

    def unlink(self, keys: Keys, key: Key) -> Keys:
        """One file goes."""
        return self.touch(keys, key, key._replace(file=File.ABSENT))
