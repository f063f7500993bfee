"""What database and disk hold, and where each client stands.

No process has a memory of its own here. That collectors and requests need none, beyond the place where they stand, is
a part of what the search shows.
"""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from functools import cache
from typing import NamedTuple

from .names import NOTHING, Names, spell


class Table(IntEnum):
    """The one table that names a key."""

    NONE = 0
    UPLOADS = 1
    BLOBS = 2
    TRASH = 3


class File(IntEnum):
    """How much of a key's file the disk is sure to keep."""

    ABSENT = 0
    WRITTEN = 1  # a power cut takes it
    DURABLE = 2  # synced, renamed, and the folder synced


class Rot(IntEnum):
    """What a blob's bytes are, and what its row says of them."""

    SOUND = 0
    ROTTEN = 1  # and nobody knows
    MARKED = 2  # and it is shown to nobody
    WRONGED = 3  # marked although it is sound: only mutants do


class Stage(IntEnum):
    """What a request that works on a key does next."""

    IDLE = 0  # no client waits on this key
    WRITE = 1
    PUBLISH = 2  # sync, rename, sync the folder
    FINALISE = 3


class Backup(IntEnum):
    """How far a backup has come."""

    NONE = 0
    HELD = 1  # its hold on the trash is committed
    COPIED = 2  # it has its copy of the catalog, and reads files


class Key(NamedTuple):
    """One random key, with its file and the request that works on it.

    Keys go by no name: two alike are interchangeable, and one that nothing remembers is dropped. Real keys are drawn
    once and never again, so this loses nothing, and it keeps the states finite however long clients push and delete.
    """

    digest: str
    table: Table
    file: File
    uploader: int  # a client, or NOBODY
    stage: Stage  # goes on although others may have taken the file away: a request does not look
    runaway: bool = False  # an earlier request, whose client gave up, is still going to finalise
    noted: bool = (
        False  # an earlier look at it is remembered: by a reaper where there are backups, else by mutants only
    )
    copied: bool = False  # a copy of the catalog names it as a blob, and its file is still to be read
    rot: Rot = Rot.SOUND


NOBODY = -1
Keys = tuple[Key, ...]


class Client(NamedTuple):
    """How far a client has come in its script, and what it was told exists."""

    position: int = 0
    promised: Names = NOTHING


class State(NamedTuple):
    """Everything there is at one moment."""

    keys: Keys
    links: Names  # blobs linked in a repository
    manifests: Names
    tagged: Names  # manifests that a tag names
    leases: tuple[Names, ...]  # one set for each session; a lease that has expired is gone
    clients: tuple[Client, ...]
    backup: Backup = Backup.NONE

    def with_keys(self, keys: Keys) -> "State":
        """The same with other keys."""
        _, links, manifests, tagged, leases, clients, backup = self
        return State(keys, links, manifests, tagged, leases, clients, backup)

    def with_client(self, number: int, new: Client) -> "State":
        """The same with one client moved."""
        keys, links, manifests, tagged, leases, clients, backup = self
        return State(keys, links, manifests, tagged, leases, (*clients[:number], new, *clients[number + 1 :]), backup)


class Act(StrEnum):
    """The steps. Each is one serialisable transaction or one operation on one file."""

    HEAD_BLOB = "HEAD blob"
    HEAD_MANIFEST = "HEAD manifest"
    MOUNT = "mount"
    REGISTER = "register an upload"
    RESUME = "resume the upload"
    WRITE = "write the bytes"
    PUBLISH = "sync and rename the file"
    FINALISE = "finalise"
    FINALISE_REFUSED = "finalise: refused, the upload is gone"
    PUT = "PUT manifest"
    PUT_REFUSED = "PUT manifest: refused, unknown"
    UNTAG = "DELETE tag"
    UNDO = "undo of DELETE tag"
    DELETE_MANIFEST = "DELETE manifest"
    DELETE_BLOB = "DELETE blob"
    DENIED = "DELETE: denied, still listed"
    PASS = "go on without"
    AGAIN = "start again"
    DROP_MANIFESTS = "collector: drop manifests"
    DROP_LINK = "collector: drop link"
    NOTE = "collector: look and remember"
    CONDEMN = "collector: condemn blob"
    UNLINK = "reaper: unlink file"
    FORGET = "reaper: forget key"
    SWEEP = "sweep: unlink nameless file"
    HOLD = "backup: hold the trash"
    COPY = "backup: copy the catalog"
    READ = "backup: read a file"
    RELEASE = "backup: release the trash"
    ABANDON = "a backup dies, or its hold ends"
    LOOK = "reaper: look into the trash"
    EXPIRE = "a lease expires"
    PURGE = "an upload is purged"
    DIE = "requests die"
    GIVE_UP = "the client gives up, its request runs on"
    POWER_CUT = "power fails"
    ROT = "the disk loses bits"
    WITHDRAW = "scrub: withdraw blob"


COLLECTING = frozenset({Act.DROP_MANIFESTS, Act.DROP_LINK, Act.CONDEMN})


class Change(NamedTuple):
    """What a step does to the keys, when it neither reads nor changes anything else."""

    act: Act
    keys: Keys
    digest: str = ""


class Step(NamedTuple):
    """One step, and the state that it leads to."""

    act: Act
    after: State
    about: Names = NOTHING
    client: int = NOBODY
    digest: str = ""
    answered: bool = True  # False: it is committed, but the client never hears of it and will ask again

    def __str__(self) -> str:
        by = f"client {self.client}: " if self.client != NOBODY else ""
        what = self.digest or (spell(self.about) if self.about else "")
        return f"{by}{self.act}{f' ({what})' if what else ''}{'' if self.answered else ', the answer is lost'}"


def settle(keys: Iterable[Key]) -> Keys:
    """One form for all orders of the same keys; without those that nothing remembers."""
    return tuple(sorted(key for key in keys if key.table or key.file or key.stage or key.runaway or key.copied))


def add_key(keys: Keys, new: Key) -> Keys:
    """The keys and one more."""
    return settle((*keys, new))


@cache
def change_key(keys: Keys, old: Key, new: Key) -> Keys:
    """The keys with one of them changed."""
    if new.table is not Table.UPLOADS and not new.stage and not new.runaway and new.uploader != NOBODY:
        new = new._replace(uploader=NOBODY)
    if new.rot and new.table is not Table.BLOBS:
        new = new._replace(rot=Rot.SOUND)  # nobody reads it any more
    place = keys.index(old)
    return settle((*keys[:place], new, *keys[place + 1 :]))


def blob_of(keys: Keys, digest: str) -> Key | None:
    """The key that is the blob of this digest."""
    for key in keys:
        if key.table is Table.BLOBS and key.digest == digest:
            return key
    return None


def all_leased(state: State) -> Names:
    """What any session holds a lease on."""
    held = NOTHING
    for leased in state.leases:
        held |= leased
    return held


def with_lease(leases: tuple[Names, ...], session: int, gained: Names) -> tuple[Names, ...]:
    """The leases, and one session's new ones."""
    return (*leases[:session], leases[session] | gained, *leases[session + 1 :])


def without_lease(leases: tuple[Names, ...], session: int, lost: Names) -> tuple[Names, ...]:
    """The leases without some of one session's."""
    return (*leases[:session], leases[session] & ~lost, *leases[session + 1 :])


@cache
def halted(keys: Keys, lost: File = File.ABSENT, purge: bool = False) -> Keys:
    """The keys once no request runs: without the files that a power cut takes, or with all uploads purged."""
    left = []
    for key in keys:
        table = Table.TRASH if purge and key.table is Table.UPLOADS else key.table
        file = File.ABSENT if key.file is lost else key.file
        uploader = key.uploader if table is Table.UPLOADS else NOBODY
        left.append(
            key._replace(table=table, file=file, uploader=uploader, stage=Stage.IDLE, runaway=False, copied=False)
        )
    return settle(left)
