"""Mistakes about what a disk has lost."""

from collections.abc import Iterator

from ..accidents import Store
from ..names import NOTHING, Names
from ..state import Act, Change, Key, Keys, Rot, State, Table, blob_of, change_key
from .registry import mutant


@mutant("scrub: marks the digest, not the key", "L17", "rot", "I7", 12)
class MarksTheDigest(Store):
    """The file that it read is collected or healed meanwhile, and the mark meets the sound blob of a later push."""

    def withdrawn(self, keys: Keys) -> Iterator[Change]:
        for key in keys:
            if key.rot is Rot.ROTTEN and not key.noted:
                yield Change(Act.NOTE, change_key(keys, key, key._replace(noted=True)), key.digest)
            if key.noted and (blob := blob_of(keys, key.digest)):
                rot = Rot.MARKED if blob.rot else Rot.WRONGED
                yield Change(Act.WITHDRAW, change_key(keys, blob, blob._replace(rot=rot)), key.digest)


@mutant("scrub: the mark is not looked at", "L17", "rot", "I7", 7)
class MarkIsNotLookedAt(Store):
    """HEAD promises what is withdrawn, so that no client ever pushes it again."""

    def marks(self, state: State) -> Names:
        return NOTHING


@mutant("upload: a duplicate of a withdrawn blob", "L17", "rot", "I7", 10)
class DuplicateOfTheWithdrawn(Store):
    """The good bytes go to trash, and the bad ones stay the blob."""

    def publish(self, keys: Keys, key: Key, done: Key, winner: Key | None) -> Keys:
        return change_key(keys, key, done._replace(table=Table.TRASH if winner else Table.BLOBS))
