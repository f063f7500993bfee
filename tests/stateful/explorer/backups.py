"""A backup beside everything else: it holds the trash, copies the catalog, and reads the files that the copy names.

Under a scenario with backups the reaper's look and its deed are two steps, as they are in truth: a batch is read in one
statement together with the holds, and its files are unlinked later (L16).
"""

from collections.abc import Iterator

from .collector import Collector
from .state import Act, Backup, Change, Key, Keys, State, Step, Table, change_key, settle


class Backups(Collector):
    """One backup at a time, over and over. It may die anywhere or lose its hold: then it claims nothing any more."""

    # -- decisions

    def may_reap(self, state: State) -> bool:
        """The statement that reads the trash finds no hold (L16)."""
        return state.backup is Backup.NONE

    def looked_at(self, key: Key) -> bool:
        """What that statement sees of the trash."""
        return key.table is Table.TRASH

    def begin(self, state: State) -> Iterator[Step]:
        """The hold commits, then the catalog is copied (L16)."""
        if state.backup is Backup.NONE:
            yield Step(Act.HOLD, state._replace(backup=Backup.HELD))
        if state.backup is Backup.HELD:
            yield Step(Act.COPY, state._replace(backup=Backup.COPIED, keys=copied(state.keys)))

    # -- steps

    def collector(self, state: State) -> Iterator[Step]:
        yield from super().collector(state)
        if self.scenario.backs_up and self.may_reap(state):
            for key in state.keys:
                if self.looked_at(key) and not key.noted:
                    seen = change_key(state.keys, key, key._replace(noted=True))
                    yield Step(Act.LOOK, state.with_keys(seen), digest=key.digest)

    def reap(self, keys: Keys, key: Key) -> Iterator[Change]:
        """Only what the look has found."""
        if key.noted or not self.scenario.backs_up:
            yield from super().reap(keys, key)

    def backup(self, state: State) -> Iterator[Step]:
        """What a backup does next, or its end."""
        yield from self.begin(state)
        if state.backup is Backup.NONE:
            return
        yield Step(Act.ABANDON, state._replace(backup=Backup.NONE, keys=settle(map(read, state.keys))))
        if state.backup is Backup.COPIED:
            for key in state.keys:
                if key.copied:
                    yield Step(Act.READ, state.with_keys(change_key(state.keys, key, read(key))), digest=key.digest)
            if not any(key.copied for key in state.keys):
                yield Step(Act.RELEASE, state._replace(backup=Backup.NONE))


def copied(keys: Keys) -> Keys:
    """The keys, with a mark on those that a copy of the catalog names as blobs."""
    return settle(key._replace(copied=key.table is Table.BLOBS) for key in keys)


def read(key: Key) -> Key:
    """The key once its file has been read, or nobody wants to any more."""
    return key._replace(copied=False)
