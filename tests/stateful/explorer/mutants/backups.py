"""Mistakes of a backup, and of a reaper beside it."""

from collections.abc import Iterator

from ..accidents import Store
from ..backups import copied
from ..state import Act, Backup, Change, Key, Keys, State, Step, Table
from .registry import mutant


@mutant("the reaper ignores holds", "L16", "backup", "I8", 10)
class ReaperIgnoresHolds(Store):
    """A blob is collected while a backup runs, and the copied catalog names a file that is not in the backup."""

    def may_reap(self, state: State) -> bool:
        return True


@mutant("holds are looked for before the trash", "L16", "backup", "I8", 10)
class HoldsLookedForFirst(Store):
    """Between the two statements the hold is taken, the catalog copied, and a blob of the copy condemned."""

    def looked_at(self, key: Key) -> bool:
        return key.table in (Table.BLOBS, Table.TRASH)

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        for change in super().condemn(keys, key, unheld):
            trashed = tuple(
                now._replace(noted=True) if now == _condemned(key) and key.noted else now for now in change.keys
            )
            yield change._replace(keys=tuple(sorted(trashed)))


def _condemned(key: Key) -> Key:
    return key._replace(table=Table.TRASH, noted=False)


@mutant("the catalog is copied before the hold", "L16", "backup", "I8", 9)
class CopiedBeforeHeld(Store):
    """A blob of the copy is condemned, and the trash looked into, before the hold is there."""

    def may_reap(self, state: State) -> bool:
        return state.backup is not Backup.COPIED

    def begin(self, state: State) -> Iterator[Step]:
        if state.backup is Backup.NONE:
            yield Step(Act.COPY, state._replace(backup=Backup.HELD, keys=copied(state.keys)))
        if state.backup is Backup.HELD:
            yield Step(Act.HOLD, state._replace(backup=Backup.COPIED))
