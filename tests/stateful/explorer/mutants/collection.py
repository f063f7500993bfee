"""Mistakes of the collector, the reaper and the sweep."""

from collections.abc import Iterator

from ..accidents import Store
from ..names import ENTRIES, EVERYWHERE, NOTHING, Entry, Names, closure
from ..state import Act, Change, File, Key, Keys, State, Table, all_leased, blob_of, change_key
from .registry import mutant


@mutant("collect: nothing points at it", "L8", "referrer lists its subject", "I5", 8)
class NothingPointsAtIt(Store):
    """An index that lists its own subject keeps it and is kept by it: the two never go."""

    def dead(self, state: State, manifest: Entry) -> Names:
        held = manifest.bit & (state.tagged | all_leased(state)) or manifest.keepers & state.manifests
        return NOTHING if held else closure(state.manifests, manifest.bit)


@mutant("collect: parents left behind", "L8", "index", "I1", 9)
class ParentsLeftBehind(Store):
    """A dead child goes and its dead index stays, with an edge to nothing."""

    def dead(self, state: State, manifest: Entry) -> Names:
        return super().dead(state, manifest) & manifest.bit


@mutant("collect: manifest despite a lease", "L8", "index", "I3", 7)
class ManifestDespiteLease(Store):
    """A child goes that a client was told exists."""

    def dead(self, state: State, manifest: Entry) -> Names:
        together = closure(state.manifests, manifest.bit)
        return NOTHING if together & state.tagged else together


@mutant("collect: referrers are no edge", "L8", "referrer", "I2", 11)
class ReferrersAreNoEdge(Store):
    """The signature of a tagged image is collected."""

    def dead(self, state: State, manifest: Entry) -> Names:
        above = closure(state.manifests, manifest.bit)
        held = manifest.bit & (state.tagged | all_leased(state)) or manifest.parents & above
        return NOTHING if held else manifest.bit


@mutant("collect: link despite a lease", "L5", "same repository", "I3", 5)
class LinkDespiteLease(Store):
    """A blob that was just uploaded, or that a client was told exists, is gone when its manifest arrives."""

    def unused(self, state: State, blob: Entry) -> bool:
        return not blob.users & state.manifests


@mutant("condemn in two transactions", "L5", "same repository", "I1", 12)
class CondemnInTwo(Store):
    """Between the look and the delete an upload finds the row, dedupes onto it, and loses both copies."""

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        if unheld and not key.noted:
            yield Change(Act.NOTE, change_key(keys, key, key._replace(noted=True)), key.digest)
        if key.noted:
            yield from super().condemn(keys, key, unheld=True)


@mutant("condemn unlinks before commit", "L6", "same repository", "I1", 11)
class UnlinkBeforeCondemn(Store):
    """The file goes first; an upload dedupes onto the row that is still there."""

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        if unheld and key.file:
            yield Change(Act.UNLINK, change_key(keys, key, key._replace(file=File.ABSENT)), key.digest)
        else:
            yield from super().condemn(keys, key, unheld)


@mutant("condemn ignores leases", "L5", "delete blob", "I1", 7)
class CondemnIgnoresLeases(Store):
    """Another client deletes the link, and a blob goes that somebody was promised."""

    def unheld(self, state: State, digest: str) -> bool:
        return not EVERYWHERE[digest] & state.links


@mutant("condemn counts one registry's links", "L5", "two registries", "I1", 6)
class CondemnCountsOneRegistry(Store):
    """One tenant's collection takes a blob that another tenant has linked."""

    def unheld(self, state: State, digest: str) -> bool:
        return not ENTRIES[0, digest].bit & (state.links | all_leased(state))


@mutant("condemn forgets a crashed run", "L13", "same repository", "I5", 7)
class CondemnForgets(Store):
    """Only the run that dropped the last link condemns: if it dies in between, the blob stays for ever."""

    def dropping(self, keys: Keys, digest: str) -> Keys:
        blob = blob_of(keys, digest)
        return change_key(keys, blob, blob._replace(noted=True)) if blob else keys

    def condemn(self, keys: Keys, key: Key, unheld: bool) -> Iterator[Change]:
        yield from super().condemn(keys, key, unheld and key.noted)

    def mishaps_of(self, keys: Keys, key: Key) -> Iterator[Change]:
        yield from super().mishaps_of(keys, key)
        if key.noted:
            yield Change(Act.DIE, change_key(keys, key, key._replace(noted=False)), key.digest)


@mutant("sweep ignores uploads", "L7", "same repository", "I1", 5)
class SweepIgnoresUploads(Store):
    """A file is taken from under the upload that writes it, and the upload commits."""

    def nameless(self, key: Key) -> bool:
        return key.table in (Table.NONE, Table.UPLOADS)


@mutant("sweep reads blobs, then uploads", "L7", "same repository", "I1", 6)
class SweepReadsTwice(Store):
    """A key that moves from uploads to blobs between the two statements is in neither, and its file goes."""

    def sweep(self, keys: Keys, key: Key) -> Iterator[Change]:
        yield from super().sweep(keys, key)
        uploading = key.table is Table.UPLOADS
        if key.file and uploading and not key.noted:
            yield Change(Act.NOTE, change_key(keys, key, key._replace(noted=True)), key.digest)
        if key.file and key.noted and not uploading:
            swept = key._replace(file=File.ABSENT, noted=False)
            yield Change(Act.SWEEP, change_key(keys, key, swept), key.digest)
