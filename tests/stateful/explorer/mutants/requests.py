"""Mistakes in requests that ask, mount, push manifests and delete."""

from ..accidents import Store
from ..names import EVERYWHERE, NOTHING, Entry, Names, entries
from ..state import Act, State, Table, blob_of
from .registry import mutant


@mutant("PUT trusts an earlier check", "L4", "same repository", "I4", 7)
class PutTrustsAnEarlierCheck(Store):
    """What was looked up before the transaction is gone when it commits: the manifest links blobs that nobody holds."""

    def missing(self, state: State, client: int, manifest: Entry) -> Names:
        return NOTHING


@mutant("PUT spends every session's leases", "L4", "same repository", "I3", 8)
class PutSpendsAllLeases(Store):
    """Another push was told that the blob exists, and loses it before its own manifest arrives."""

    def spend(self, state: State, client: int, settled: Names) -> tuple[Names, ...]:
        return tuple(held & ~settled for held in state.leases)


@mutant("PUT spends no leases", "L4", "same repository", "I5'", 11)
class PutSpendsNothing(Store):
    """After a push and a delete the space waits for a lease that nobody needs any more."""

    def spend(self, state: State, client: int, settled: Names) -> tuple[Names, ...]:
        return state.leases


@mutant("a repeated PUT spends nothing", "L4", "same repository", "I5'", 11)
class RepeatedPutSpendsNothing(Store):
    """Who pushes an image again and deletes it waits for the leases of that second push."""

    def settled(self, state: State, manifest: Entry) -> Names:
        return NOTHING if state.manifests & manifest.bit else super().settled(state, manifest)


@mutant("PUT ignores an own lease", "L4", "delete blob", "I3", 7)
class PutIgnoresOwnLease(Store):
    """Another client deletes the blob's link, and a push is refused for what it was told exists."""

    def met(self, state: State, client: int) -> Names:
        return state.links | state.manifests


@mutant("PUT takes any repository's blob", "L15", "two registries", "I4", 7)
class PutTakesAnyBlob(Store):
    """Who knows a digest gets at the bytes of a repository that it may not read."""

    def met(self, state: State, client: int) -> Names:
        rows = [EVERYWHERE[key.digest] for key in state.keys if key.table is Table.BLOBS]
        return super().met(state, client) | sum(set(rows))


@mutant("PUT of an index leaves its children's leases", "L4", "alone, everything", "I5'", 17)
class IndexLeavesLeases(Store):
    """A child pushed by digest keeps its lease when an index lists it, and so outlives that index for a while."""

    def settled(self, state: State, manifest: Entry) -> Names:
        return manifest.blobs | manifest.referrers & state.manifests


@mutant("PUT of a subject leaves its referrers' leases", "L4", "alone, everything", "I5'", 17)
class SubjectLeavesLeases(Store):
    """A referrer pushed before its subject keeps its lease when that comes, and so outlives it for a while."""

    def settled(self, state: State, manifest: Entry) -> Names:
        return manifest.needs


@mutant("PUT by digest takes no lease", "L10", "index", "I3", 7)
class PutByDigestTakesNoLease(Store):
    """A child is collected between its own push and its index's."""

    leasing = Store.leasing - {Act.PUT}


@mutant("PUT by digest leans on a tag", "L10", "referrer lists its subject", "I3", 10)
class PutByDigestLeansOnTag(Store):
    """A child that somebody else has tagged takes no lease, and goes with that tag before its index is pushed."""

    def leased(self, state: State, act: Act, client: int, promise: Names) -> tuple[Names, ...]:
        leans = act is Act.PUT and promise & state.tagged
        return state.leases if leans else super().leased(state, act, client, promise)


@mutant("HEAD takes no lease", "L10", "same repository", "I3", 7)
class HeadTakesNoLease(Store):
    """A client is told that a blob exists, skips its upload, and the blob is collected."""

    leasing = Store.leasing - {Act.HEAD_BLOB}


@mutant("HEAD manifest takes no lease", "L10", "index", "I3", 9)
class HeadManifestTakesNoLease(Store):
    """A client is told that a child exists, skips its push, and the child is collected."""

    leasing = Store.leasing - {Act.HEAD_MANIFEST}


@mutant("HEAD answers for any repository", "L15", "two registries", "I4", 6)
class HeadAnswersForAny(Store):
    """Anybody can find out which digests other repositories and tenants hold."""

    def visible(self, state: State, blob: Entry) -> bool:
        return super().visible(state, blob) or blob_of(state.keys, blob.reference) is not None


@mutant("mount takes no lease", "L10", "two registries", "I3", 6)
class MountTakesNoLease(Store):
    """The mounted blob's link is collected before the manifest that needs it arrives."""

    leasing = Store.leasing - {Act.MOUNT}


@mutant("mount from any repository", "L15", "two registries", "I4", 7)
class MountFromAnywhere(Store):
    """A mount hands out a blob that the named source does not have."""

    def mountable(self, state: State, source: Names) -> bool:
        digest = entries(source)[0].reference
        return super().mountable(state, source) or blob_of(state.keys, digest) is not None


@mutant("one session for all", "L10", "same repository", "I3", 8)
class OneSession(Store):
    """One client's push spends the lease that another one waits on."""

    def session(self, client: int) -> int:
        return 0


@mutant("undo does not look", "L11", "same repository", "I2", 8)
class UndoDoesNotLook(Store):
    """A tag comes back for a manifest that has gone."""

    def undoable(self, state: State, manifest: Entry) -> bool:
        return True


@mutant("DELETE manifest despite its parent", "L11", "index", "I1", 9)
class DeleteUnderParent(Store):
    """An index lists a child that is no longer there."""

    def listed(self, state: State, manifest: Entry) -> bool:
        return False


@mutant("DELETE blob despite a manifest", "L11", "delete blob", "I1", 6)
class DeleteUnderManifest(Store):
    """An image lists a layer that is no longer linked."""

    def in_use(self, state: State, blob: Entry) -> bool:
        return False


@mutant("DELETE blob keeps the own lease", "L11", "blob without manifest", "I5'", 10)
class DeleteKeepsLease(Store):
    """Who has deleted its own blob waits for its own lease before the space comes back."""

    def give_back(self, state: State, client: int, blob: Entry) -> tuple[Names, ...]:
        return state.leases
