"""What must be true: of every state, of every step, and of what a collection leaves behind."""

from functools import cache

from .accidents import Store
from .names import ALL_MANIFESTS, DIGESTS, EVERYWHERE, NOTHING, Names, blobs_of, children_of, entries
from .rules import marked, reaches
from .state import COLLECTING, Act, Backup, File, Key, Rot, State, Step, Table, all_leased, halted

BRIEFLY = {
    "I1": "a manifest's blobs are linked, with rows and durable files; its children are there, and what a lease names",
    "I2": "a tag has its manifest, and the collector takes nothing that a tag reaches",
    "I3": "what a client was told exists stays for it, until its lease is spent or ends or somebody deletes it by name",
    "I4": "a link comes from own bytes, a link in the source, or an own lease, and only linked blobs are shown",
    "I5": "when clients stop and leases and uploads have run out, one collection leaves exactly what tags reach",
    "I7": "only what has rotted is withdrawn; then nobody is shown it, until anybody's push brings it back for all",
    "I5'": "when all clients rest at the end of their scripts, one collection does so at once: nothing has to expire",
    "I8": "a file that a backup's copy of the catalog names is there until the backup has read it",
}


def broken_state(state: State) -> str:
    """The invariant that a state breaks, and how; empty if none."""
    rows, durable = _present(state.keys)
    if rows is None:
        return "I1: two rows for one digest"
    if blobs_of(state.manifests) & ~(state.links & durable):
        return "I1: a manifest's blob is missing"
    if children_of(state.manifests) & ~state.manifests:
        return "I1: an index's child is missing"
    if all_leased(state) & ~(durable | state.manifests):
        return "I1: a lease is on what is not there"
    if state.links & ~rows:
        return "I1: a link is to what is not there"
    if state.tagged & ~state.manifests:
        return "I2: a tag names what is not there"
    return _broken_file(state)


def _broken_file(state: State) -> str:
    if any(key.rot is Rot.WRONGED for key in state.keys):
        return "I7: a sound blob is withdrawn"
    if state.backup and any(key.copied and key.file is not File.DURABLE for key in state.keys):
        return "I8: a file is gone that a backup has still to read"
    return ""


@cache
def _present(keys: tuple[Key, ...]) -> tuple[Names | None, Names]:
    """The digests that have a row and those that have a durable file as well, in every repository at once."""
    rows = durable = NOTHING
    for key in keys:
        if key.table is Table.BLOBS:
            everywhere = EVERYWHERE[key.digest]
            if rows & everywhere:
                return None, NOTHING
            rows |= everywhere
            durable |= everywhere if key.file is File.DURABLE else NOTHING
    return rows, durable


def broken_step(store: Store, before: State, step: Step) -> str:
    """The invariant that a step breaks, and how; empty if none."""
    act, after = step.act, step.after
    if act is Act.PUT_REFUSED and step.about & before.clients[step.client].promised:
        return "I3: a push is refused for what the client was told exists"
    if act is Act.HEAD_BLOB and step.about & ~before.links:
        return "I4: a blob is shown where it is not linked"
    if act in (Act.HEAD_BLOB, Act.MOUNT) and step.about & marked(before.keys):
        return "I7: a withdrawn blob is shown"
    if act is Act.FINALISE and step.about & marked(after.keys):
        return "I7: a blob stays withdrawn although it was pushed again"
    if act in COLLECTING:
        return _broken_collection(before, after)
    gained = after.links & ~before.links
    return "I4: a link out of nothing" if gained and not _earned(store, before, step, gained) else ""


def _broken_collection(before: State, after: State) -> str:
    taken = (before.links | before.manifests) & ~(after.links | after.manifests)
    if any(taken & client.promised for client in before.clients):
        return "I3: what a client was told exists is collected"
    if reaches(before, taken & ALL_MANIFESTS):
        return "I2: the collector takes what a tag reaches"
    return ""


def _earned(store: Store, before: State, step: Step, gained: Names) -> bool:
    """Did the client bring the bytes, or find a link in the source, or hold a lease?"""
    if step.act is Act.FINALISE:
        return True
    if step.act is Act.MOUNT:
        return bool(step.about & before.links)
    return step.act is Act.PUT and not gained & ~before.leases[store.session(step.client)]


def broken_rest(store: Store, state: State) -> str:
    """I5': all clients rest, and a collection begins."""
    scenario = store.scenario
    if not scenario.rests_clean or scenario.impatient or state.backup is not Backup.NONE:
        return ""
    for client, script in zip(state.clients, scenario.scripts, strict=True):
        if client.position != len(script):
            return ""
    return "I5': a collection leaves something behind" if leaves_something(store, state) else ""


def abandoned(state: State) -> State:
    """I5: all clients have stopped, for so long that uploads and leases have run out."""
    return State(halted(state.keys, purge=True), state.links, state.manifests, state.tagged, (NOTHING,), ())


def leaves_something(store: Store, state: State) -> bool:
    """Does one collection, with nobody else about, leave anything but what tags reach, or less than that?"""
    while step := next(store.collector(state), None):
        state = step.after
    kept = NOTHING
    for manifest in entries(state.manifests):
        kept |= manifest.bit if reaches(state, manifest.bit) else NOTHING
    blobs = blobs_of(kept)
    files = [key for key in state.keys if key.table is not Table.UPLOADS]
    whole = all(key.table is Table.BLOBS and key.file is File.DURABLE for key in files)
    digests = [digest for digest in DIGESTS if EVERYWHERE[digest] & blobs]
    exact = whole and sorted(key.digest for key in files) == digests
    return state.manifests != kept or state.links != blobs or not exact
