"""A disk that loses what it had synced, and the scrub that finds it."""

from collections.abc import Iterator
from functools import cache

from .names import EVERYWHERE, Names
from .rules import Rules
from .state import Act, Change, Client, File, Keys, Rot, State, Step, Table, change_key


class Scrub(Rules):
    """Any number of scrubs: what one has read decides nothing, so that it reads and marks is one step here."""

    def rotting(self, state: State) -> Iterator[Step]:
        """A blob's bytes go bad, at any time; and a scrub that has read them marks its row."""
        if not self.scenario.rots:
            return
        for act, keys, digest in spoiled(state.keys):
            yield Step(act, state.with_keys(keys), digest=digest)
        for act, keys, digest in self.withdrawn(state.keys):
            yield Step(act, without_promises(state.with_keys(keys), EVERYWHERE[digest]), digest=digest)

    def withdrawn(self, keys: Keys) -> Iterator[Change]:
        """Only while the key that was read is the blob's, in the transaction that marks it (L17)."""
        for key in keys:
            if key.table is Table.BLOBS and key.rot is Rot.ROTTEN:
                yield Change(Act.WITHDRAW, change_key(keys, key, key._replace(rot=Rot.MARKED)), key.digest)


@cache
def spoiled(keys: Keys) -> tuple[Change, ...]:
    """One blob's bytes are lost. Others' matter to nobody: an upload is verified when it is finished."""
    sound = [key for key in keys if key.table is Table.BLOBS and key.file is File.DURABLE and key.rot is Rot.SOUND]
    return tuple(Change(Act.ROT, change_key(keys, key, key._replace(rot=Rot.ROTTEN)), key.digest) for key in sound)


def without_promises(state: State, lost: Names) -> State:
    """What a client was told exists is gone, by nobody's doing but the disk's: it will be told so."""
    clients = tuple(Client(client.position, client.promised & ~lost) for client in state.clients)
    return state._replace(clients=clients)
