"""Mistakes in the way of a blob's bytes to its row."""

from collections.abc import Iterator

from ..accidents import Store
from ..state import Act, Change, File, Key, Keys, Stage, State, Step, Table, blob_of, change_key, halted, settle
from .registry import mutant


@mutant("upload: key not registered", "L1", "same repository", "I1", 5)
class Unregistered(Store):
    """No table names the file while it is written: the sweep takes it, and the commit says that it is there."""

    registers = False

    def fence(self, key: Key) -> bool:
        return True


@mutant("upload: commit before sync", "L9", "same repository", "I1", 3)
class CommitBeforeSync(Store):
    """The row is durable and the bytes are not: a power cut leaves a blob without a file."""

    finalises_from = Stage.PUBLISH


@mutant("upload: finalise trusts its registration", "L2", "same repository", "I1", 6)
class NoFence(Store):
    """An upload is purged under a live request, its file reaped, and the request commits a blob without one."""

    def fence(self, key: Key) -> bool:
        return True


@mutant("upload: finalise takes no lease", "L10", "same repository", "I3", 5)
class FinaliseTakesNoLease(Store):
    """A blob is collected between its upload and its manifest."""

    leasing = Store.leasing - {Act.FINALISE}


@mutant("upload: own file unlinked before commit", "L6", "same repository", "I1", 12)
class UnlinkedBeforeCommit(Store):
    """The blob that made it a duplicate is collected meanwhile, and the commit makes a blob of the unlinked file."""

    def finalise(self, state: State, key: Key, done: Key) -> Iterator[Step]:
        if key.file and blob_of(state.keys, key.digest):
            early = change_key(state.keys, key, key._replace(file=File.ABSENT))
            yield Step(Act.UNLINK, state.with_keys(early), client=key.uploader)
        yield from super().finalise(state, key, done)


@mutant("upload: a refused finalise unlinks its file", "L2", "requests that run on", "I1", 8)
class RefusedUnlinks(Store):
    """The file that it takes is the one which its twin has just published."""

    def refuse(self, keys: Keys, key: Key, done: Key) -> Keys:
        return change_key(keys, key, done._replace(file=File.ABSENT))


@mutant("upload: dedupe deletes the wrong key", "L3", "same repository", "I1", 8)
class DedupeDeletesTheOther(Store):
    """The row stays with the key whose file has just gone."""

    def publish(self, keys: Keys, key: Key, done: Key, winner: Key | None) -> Keys:
        published = super().publish(keys, key, done, winner)
        return change_key(published, winner, winner._replace(file=File.ABSENT)) if winner else published


@mutant("digest-named files", "L3", "same repository", "I1", 6)
class DigestNamedFiles(Store):
    """All uploads of one digest share one file: removing what is left of one removes the other's."""

    def touch(self, keys: Keys, key: Key, new: Key) -> Keys:
        changed = super().touch(keys, key, new)
        if key.file is new.file:
            return changed
        return settle(each._replace(file=new.file) if each.digest == key.digest else each for each in changed)


@mutant("commits are not durable", "L12", "same repository", "I1", 13)
class CommitsAreNotDurable(Store):
    """A power cut takes a condemn back after its unlink: the row is there again, the file is not."""

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        if unheld:
            lazy = key._replace(table=Table.TRASH, noted=True)
            yield Change(Act.CONDEMN, change_key(keys, key, lazy), key.digest)

    def mishaps(self, keys: Keys) -> tuple[Change, ...]:
        undone = settle(_back(key) if key.noted and blob_of(keys, key.digest) is None else key for key in keys)
        cut = (Change(Act.POWER_CUT, halted(undone, lost=File.WRITTEN)),) if undone != keys else ()
        return super().mishaps(keys) + cut


def _back(key: Key) -> Key:
    return key._replace(table=Table.BLOBS, noted=False) if key.table is Table.TRASH else key
