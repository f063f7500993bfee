"""A request that brings a blob's bytes: register, write, sync and rename, finalise."""

from collections.abc import Iterator
from typing import ClassVar

from .names import ENTRIES, Entry
from .rules import Rules
from .state import Act, File, Key, Keys, Rot, Stage, State, Step, Table, add_key, blob_of, change_key


class Uploads(Rules):
    """A fresh key for every upload; a file that is durable before any row says that it is the blob."""

    finalises_from: ClassVar[Stage] = Stage.FINALISE
    """Bytes, sync, rename, sync of the folder; only then the commit (L9)."""

    registers: ClassVar[bool] = True
    """The key is in a table before its file exists (L1)."""

    # -- decisions

    def fence(self, key: Key) -> bool:
        """Finalise begins by deleting its own registration: at most one does, and none after a purge (L2)."""
        return key.table is Table.UPLOADS

    def refuse(self, keys: Keys, key: Key, done: Key) -> Keys:
        """Who loses at the fence touches no file: a twin may have published it (L2)."""
        return change_key(keys, key, done)

    def publish(self, keys: Keys, key: Key, done: Key, winner: Key | None) -> Keys:
        """Its key becomes the blob or, if the digest has one already, goes to trash: the first one stays (L3).

        A withdrawn one does not: then it is the one to go (L17).
        """
        if winner is not None and winner.rot >= Rot.MARKED:
            keys = change_key(keys, winner, winner._replace(table=Table.TRASH))
            winner = None
        return change_key(keys, key, done._replace(table=Table.TRASH if winner else Table.BLOBS))

    def touch(self, keys: Keys, key: Key, new: Key) -> Keys:
        """An operation on one key's file. It is no other key's file (L3)."""
        return change_key(keys, key, new)

    # -- steps

    def register(self, state: State, client: int, blob: Entry) -> Iterator[Step]:
        """A new upload, whether or not the blob is there: some clients do not ask."""
        if len(state.keys) < self.scenario.keys:
            table = Table.UPLOADS if self.registers else Table.NONE
            new = Key(blob.reference, table, File.ABSENT, client, Stage.WRITE)
            yield Step(Act.REGISTER, state.with_keys(add_key(state.keys, new)), blob.bit, client)

    def resume(self, state: State, client: int, blob: Entry) -> Iterator[Step]:
        """An upload outlives its request: the PUT is sent again."""
        for key in state.keys:
            own = key.table is Table.UPLOADS and key.uploader == client and key.digest == blob.reference
            if own and not key.stage and key.file:
                again = change_key(state.keys, key, key._replace(stage=Stage.PUBLISH))
                yield Step(Act.RESUME, state.with_keys(again), blob.bit, client)

    def request(self, state: State, key: Key) -> Iterator[Step]:
        """The next step of a request whose client waits for it."""
        client = key.uploader
        if key.stage is Stage.WRITE:
            written = key._replace(file=max(key.file, File.WRITTEN), stage=Stage.PUBLISH)
            yield Step(Act.WRITE, state.with_keys(self.touch(state.keys, key, written)), client=client)
        if key.stage is Stage.PUBLISH and key.file:  # without its staged file the rename fails, and the request dies
            durable = key._replace(file=File.DURABLE, stage=Stage.FINALISE)
            yield Step(Act.PUBLISH, state.with_keys(self.touch(state.keys, key, durable)), client=client)
        if key.stage >= self.finalises_from:
            yield from self.finalise(state, key, key._replace(stage=Stage.IDLE))

    def run_on(self, state: State, key: Key) -> Iterator[Step]:
        """The last step of a request that nobody waits for."""
        yield from self.finalise(state, key, key._replace(runaway=False))

    def finalise(self, state: State, key: Key, done: Key) -> Iterator[Step]:
        """One transaction: fence, dedupe, link, lease."""
        client, blob = key.uploader, ENTRIES[self.scenario.repositories[key.uploader], key.digest]
        if not self.fence(key):
            refused = self.refuse(state.keys, key, done)
            yield Step(Act.FINALISE_REFUSED, state.with_keys(refused), blob.bit, client)
            return
        after = state._replace(
            keys=self.publish(state.keys, key, done, blob_of(state.keys, key.digest)),
            links=state.links | blob.bit,
            leases=self.leased(state, Act.FINALISE, client, blob.bit),
        )
        if key.runaway and not done.runaway:
            yield Step(Act.FINALISE, after, blob.bit, client, answered=False)
        else:
            promised = state.clients[client].promised | blob.bit
            yield from self.answers(Act.FINALISE, client, after, 1, promised, blob.bit)
