"""What a repository can hold, as sets.

A *name* is one digest or one manifest in one repository. A set of names is an `int` with one bit for each, so the
store's questions read as set algebra: `needed & ~linked` is what a manifest lacks.
"""

from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from typing import NamedTuple, TypeAlias

Names: TypeAlias = int
NOTHING: Names = 0


class Manifest(NamedTuple):
    """A manifest in miniature: one letter for each edge."""

    blobs: str = ""
    children: str = ""
    subject: str = ""
    tag: str = ""  # the one it is pushed under, if it is pushed under any


DIGESTS = "ab"
MANIFESTS = {
    "M": Manifest(blobs="a", tag="latest"),
    "N": Manifest(blobs="ab", tag="big"),  # shares a layer with M
    "V": Manifest(blobs="b", tag="latest"),  # takes M's tag over
    "I": Manifest(children="M", tag="all"),
    "R": Manifest(blobs="b", subject="M"),  # a signature of M, say
    "X": Manifest(children="M", subject="M", tag="odd"),  # an index that lists its own subject
}
REPOSITORIES = range(2)
_REFERENCES = (*DIGESTS, *MANIFESTS)


def name(repository: int, reference: str) -> Names:
    """The set of one name."""
    return 1 << (repository * len(_REFERENCES) + _REFERENCES.index(reference))


def names(repository: int, references: str) -> Names:
    """The set of several names in one repository."""
    return sum(name(repository, reference) for reference in references)


class Entry(NamedTuple):
    """One name, and the names it can have an edge with, whether or not they are there at the moment."""

    repository: int
    reference: str
    bit: Names
    needs: Names  # the blobs and children that it lists
    blobs: Names
    children: Names
    subject: Names
    parents: Names  # indexes that list it
    referrers: Names  # manifests whose subject it is
    users: Names  # manifests that list it as a blob
    rivals: Names  # manifests that go by the same tag

    @property
    def keepers(self) -> Names:
        """What keeps a manifest directly: its parents and its subject."""
        return self.parents | self.subject


def _entry(repository: int, reference: str) -> Entry:
    own = MANIFESTS.get(reference, Manifest())

    def those(related: str) -> Names:
        return names(repository, related)

    return Entry(
        repository,
        reference,
        name(repository, reference),
        needs=those(own.blobs + own.children),
        blobs=those(own.blobs),
        children=those(own.children),
        subject=those(own.subject),
        parents=those("".join(m for m, other in MANIFESTS.items() if reference in other.children)),
        referrers=those("".join(m for m, other in MANIFESTS.items() if reference == other.subject)),
        users=those("".join(m for m, other in MANIFESTS.items() if reference in other.blobs)),
        rivals=those("".join(m for m, other in MANIFESTS.items() if own.tag and own.tag == other.tag)),
    )


ENTRIES = {(r, x): _entry(r, x) for r in REPOSITORIES for x in _REFERENCES}
EVERYWHERE = {x: name(0, x) | name(1, x) for x in _REFERENCES}  # one reference, in every repository
ALL_MANIFESTS: Names = sum(EVERYWHERE[m] for m in MANIFESTS)


@cache
def entries(some: Names) -> tuple[Entry, ...]:
    """The members of a set, in a fixed order."""
    return tuple(entry for entry in ENTRIES.values() if entry.bit & some)


@cache
def blobs_of(manifests: Names) -> Names:
    """Every blob that one of these manifests lists."""
    return _union(entry.blobs for entry in entries(manifests))


@cache
def children_of(manifests: Names) -> Names:
    """Every child that one of these manifests lists."""
    return _union(entry.children for entry in entries(manifests))


@cache
def closure(manifests: Names, start: Names) -> Names:
    """A manifest and, over any number of edges, all that keeps it, out of the manifests that are there."""
    found = start
    while wider := _union(entry.keepers for entry in entries(found)) & manifests & ~found:
        found |= wider
    return found


def _union(sets: Iterable[Names]) -> Names:
    return reduce(or_, sets, NOTHING)


def spell(some: Names) -> str:
    """A set of names in words, for a trace."""
    return ", ".join(f"{entry.reference} in repository {entry.repository}" for entry in entries(some)) or "nothing"
