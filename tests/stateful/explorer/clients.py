"""What a client does next: the operations of its script, one after the other, for ever."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from .names import ENTRIES, Entry
from .rules import retag
from .scenarios import Do, Scenario, Verb
from .state import Act, Client, State, Step
from .uploads import Uploads

Operation: TypeAlias = Callable[[State, int, Entry, Do], Iterator[Step]]


class Clients(Uploads):
    """Requests that ask, mount, push manifests, and delete."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._operations: dict[Verb, Operation] = {
            Verb.BLOB: self.need_blob,
            Verb.MOUNT: self.mount,
            Verb.CHILD: self.need_manifest,
            Verb.PUT: self.put,
            Verb.UNTAG: self.untag,
            Verb.UNDO: self.undo,
            Verb.DELETE: self.delete_manifest,
            Verb.ERASE: self.delete_blob,
        }

    def client(self, state: State, number: int) -> Iterator[Step]:
        """All that one client can do next: an upload's next step if it waits for one, else its script's."""
        for key in state.keys:
            if key.stage and key.uploader == number:
                yield from self.request(state, key)
                return
        script, position = self.scenario.scripts[number], state.clients[number].position
        if position == len(script):
            yield Step(Act.AGAIN, state.with_client(number, Client()), client=number)
            return
        do = script[position]
        entry = ENTRIES[self.scenario.repositories[number], do.reference]
        yield from self._operations[do.verb](state, number, entry, do)

    # -- "it exists"

    def exists(self, act: Act, state: State, client: int, entry: Entry, do: Do) -> Iterator[Step]:
        """Look, lease and commit; then answer (L10)."""
        after = state._replace(leases=self.leased(state, act, client, entry.bit))
        yield from self.answers(act, client, after, do.skip, state.clients[client].promised | entry.bit, entry.bit)

    def need_blob(self, state: State, client: int, blob: Entry, do: Do) -> Iterator[Step]:
        if self.visible(state, blob):
            yield from self.exists(Act.HEAD_BLOB, state, client, blob, do)
        yield from self.register(state, client, blob)
        yield from self.resume(state, client, blob)

    def need_manifest(self, state: State, client: int, manifest: Entry, do: Do) -> Iterator[Step]:
        if state.manifests & manifest.bit:
            yield from self.exists(Act.HEAD_MANIFEST, state, client, manifest, do)
        yield self.pass_on(state, client, manifest)

    def mount(self, state: State, client: int, blob: Entry, do: Do) -> Iterator[Step]:
        source = ENTRIES[do.source, do.reference].bit
        if self.mountable(state, source):
            promised = state.clients[client].promised | blob.bit
            after = state._replace(links=state.links | blob.bit, leases=self.leased(state, Act.MOUNT, client, blob.bit))
            yield from self.answers(Act.MOUNT, client, after, do.skip, promised, source)
        yield self.pass_on(state, client, blob)

    def pass_on(self, state: State, client: int, entry: Entry) -> Step:
        """The client does without this operation."""
        return self.moved(Act.PASS, client, state, state.clients[client].position + 1, entry.bit)

    # -- manifests and tags

    def put(self, state: State, client: int, manifest: Entry, do: Do) -> Iterator[Step]:
        """One transaction: every edge is there, then the manifest, its links, its tag, and the leases it settles."""
        if missing := self.missing(state, client, manifest):
            yield self.moved(Act.PUT_REFUSED, client, state, 0, missing)
            return
        settled = self.settled(state, manifest)
        after = state._replace(
            links=state.links | manifest.blobs,
            manifests=state.manifests | manifest.bit,
            tagged=retag(state.tagged, manifest) if do.tagged else state.tagged,
            leases=self.spend(state, client, settled),
        )
        promised = state.clients[client].promised & ~(manifest.needs | manifest.referrers)
        if not do.tagged and not manifest.subject & state.manifests:  # nothing keeps it yet
            promised |= manifest.bit
            after = after._replace(leases=self.leased(after, Act.PUT, client, manifest.bit))
        yield from self.answers(Act.PUT, client, after, 1, promised, manifest.bit)

    def untag(self, state: State, client: int, manifest: Entry, _: Do) -> Iterator[Step]:
        after = state._replace(tagged=state.tagged & ~manifest.bit)
        yield from self.answers(Act.UNTAG, client, after, 1, state.clients[client].promised, manifest.bit)

    def undo(self, state: State, client: int, manifest: Entry, _: Do) -> Iterator[Step]:
        if self.undoable(state, manifest):
            after = state._replace(tagged=retag(state.tagged, manifest))
            yield from self.answers(Act.UNDO, client, after, 1, state.clients[client].promised, manifest.bit)
        yield self.pass_on(state, client, manifest)

    # -- deletes by name

    def delete_manifest(self, state: State, client: int, manifest: Entry, _: Do) -> Iterator[Step]:
        """It goes with its tags and with all leases on it: who deletes by name ends every promise about it (L11)."""
        if self.listed(state, manifest):
            yield self.moved(Act.DENIED, client, state, state.clients[client].position + 1, manifest.bit)
            return
        after = state._replace(
            manifests=state.manifests & ~manifest.bit,
            tagged=state.tagged & ~manifest.bit,
            leases=tuple(held & ~manifest.bit for held in state.leases),
            clients=tuple(Client(each.position, each.promised & ~manifest.bit) for each in state.clients),
        )
        yield from self.answers(Act.DELETE_MANIFEST, client, after, 1, after.clients[client].promised, manifest.bit)

    def delete_blob(self, state: State, client: int, blob: Entry, _: Do) -> Iterator[Step]:
        """Its link goes, and the caller's own lease; other sessions' leases keep it for their holders (L11)."""
        if self.in_use(state, blob):
            yield self.moved(Act.DENIED, client, state, state.clients[client].position + 1, blob.bit)
            return
        after = state._replace(links=state.links & ~blob.bit, leases=self.give_back(state, client, blob))
        promised = state.clients[client].promised & ~blob.bit
        yield from self.answers(Act.DELETE_BLOB, client, after, 1, promised, blob.bit)

    def runaways(self, state: State) -> Iterator[Step]:
        """Requests whose clients gave up."""
        for key in state.keys:
            if key.runaway:
                yield from self.run_on(state, key)
