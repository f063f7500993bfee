"""What the store decides inside its transactions. A mutant is a store that decides one of these things wrongly.

`L1` to `L17` are the lemmas of `docs/gc-proof.md`.
"""

from collections.abc import Iterator
from functools import cache
from typing import ClassVar

from .names import ALL_MANIFESTS, EVERYWHERE, NOTHING, Entry, Names, closure, entries
from .scenarios import Scenario
from .state import Act, Client, Key, Keys, Rot, State, Step, Table, all_leased, with_lease, without_lease


class Rules:
    """The decisions, under one scenario."""

    leasing: ClassVar[frozenset[Act]] = frozenset({Act.HEAD_BLOB, Act.HEAD_MANIFEST, Act.MOUNT, Act.FINALISE, Act.PUT})
    """The answers that promise something, and so take a lease in their own transaction (L10)."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def start(self) -> State:
        """An empty store; nobody has begun."""
        count = len(self.scenario.scripts)
        return State((), NOTHING, NOTHING, NOTHING, (NOTHING,) * count, (Client(),) * count)

    def session(self, client: int) -> int:
        """Whose leases a client takes and spends: its own (L10)."""
        return client

    # -- promises and leases

    def leased(self, state: State, act: Act, client: int, promise: Names) -> tuple[Names, ...]:
        """The leases after an answer that promises something."""
        return with_lease(state.leases, self.session(client), promise) if act in self.leasing else state.leases

    def marks(self, state: State) -> Names:
        """What is withdrawn, wherever it is asked for (L17)."""
        return marked(state.keys)

    def visible(self, state: State, blob: Entry) -> bool:
        """HEAD and GET know a blob only where it is linked (L15), and not while it is withdrawn."""
        return bool(state.links & blob.bit & ~self.marks(state))

    def mountable(self, state: State, source: Names) -> bool:
        """A mount copies a link that is there (L15)."""
        return bool(state.links & source & ~self.marks(state))

    # -- PUT manifest

    def met(self, state: State, client: int) -> Names:
        """What a PUT may refer to: what is linked or stored here, and what this session holds a lease on (L4, L15)."""
        blobs = state.links | state.leases[self.session(client)] & ~ALL_MANIFESTS
        return state.manifests | blobs & ~self.marks(state)

    def missing(self, state: State, client: int, manifest: Entry) -> Names:
        """Looked up in the transaction that inserts the manifest (L4)."""
        return manifest.needs & ~self.met(state, client)

    def settled(self, state: State, manifest: Entry) -> Names:
        """What a new manifest keeps from now on, so that no lease has to: blobs, children, waiting referrers (L4)."""
        return manifest.needs | manifest.referrers & state.manifests

    def spend(self, state: State, client: int, settled: Names) -> tuple[Names, ...]:
        """Only the session's own leases: others still wait for their own manifests (L4)."""
        return without_lease(state.leases, self.session(client), settled)

    # -- deletes

    def undoable(self, state: State, manifest: Entry) -> bool:
        """Looked up in the transaction that brings the tag back (L11)."""
        return bool(state.manifests & manifest.bit)

    def listed(self, state: State, manifest: Entry) -> bool:
        """An index here lists it: it cannot be deleted (L11)."""
        return bool(state.manifests & manifest.parents)

    def in_use(self, state: State, blob: Entry) -> bool:
        """A manifest here lists it: it cannot be deleted (L11)."""
        return bool(state.manifests & blob.users)

    def give_back(self, state: State, client: int, blob: Entry) -> tuple[Names, ...]:
        """Who deletes a blob needs no promise about it any more; others do (L11)."""
        return without_lease(state.leases, self.session(client), blob.bit)

    # -- collection

    def dead(self, state: State, manifest: Entry) -> Names:
        """A manifest with all that keeps it, if no tag and no lease is on any of them; else nothing (L8)."""
        together = closure(state.manifests, manifest.bit)
        return NOTHING if together & (state.tagged | all_leased(state)) else together

    def unused(self, state: State, blob: Entry) -> bool:
        """No manifest here lists it and no lease here holds it (L5)."""
        return not (blob.users & state.manifests or blob.bit & all_leased(state))

    def unheld(self, state: State, digest: str) -> bool:
        """No link and no lease, in any registry (L5)."""
        return not EVERYWHERE[digest] & (state.links | all_leased(state))

    def nameless(self, key: Key) -> bool:
        """One look at uploads, blobs and trash together (L7)."""
        return key.table is Table.NONE

    # -- answers

    def answers(self, act: Act, client: int, after: State, skip: int, promised: Names, about: Names) -> Iterator[Step]:
        """A committed transaction is answered; or the answer is lost, and the client will ask again.

        In the second case the client knows nothing new, and no longer counts on what the request itself took back.
        """
        was = after.clients[client]
        told = Client(was.position + skip, promised)
        yield Step(act, after.with_client(client, told), about, client)
        still = Client(was.position, promised & was.promised)
        yield Step(act, after.with_client(client, still), about, client, answered=False)

    def moved(self, act: Act, client: int, state: State, position: int, about: Names = NOTHING) -> Step:
        """Nothing was committed; the client goes on elsewhere in its script."""
        there = Client(position, state.clients[client].promised)
        return Step(act, state.with_client(client, there), about, client)


def retag(tagged: Names, manifest: Entry) -> Names:
    """The tag of this manifest names it, and no other any more."""
    return tagged & ~manifest.rivals | manifest.bit


def reaches(state: State, taken: Names) -> bool:
    """Does a tag reach any of these manifests, over children, subjects and referrers?"""
    return any(closure(state.manifests, entry.bit) & state.tagged for entry in entries(taken))


@cache
def marked(keys: Keys) -> Names:
    """Every name of a digest whose blob is withdrawn."""
    names = NOTHING
    for key in keys:
        if key.rot >= Rot.MARKED:
            names |= EVERYWHERE[key.digest]
    return names
