"""Who does what. Under each scenario every invariant must hold in every state that can be reached.

The clients run their scripts over and over. Scenarios are small on purpose: what goes wrong in a store goes wrong
between two requests and a collector, if it goes wrong at all.
"""

from enum import StrEnum
from typing import NamedTuple


class Verb(StrEnum):
    """What a client wants next."""

    BLOB = "a blob is there"  # HEAD answers, or it is uploaded
    MOUNT = "a blob is there, from another repository"
    CHILD = "a manifest is there"  # HEAD answers, or the client goes on and pushes it
    PUT = "push a manifest"
    UNTAG = "delete a tag"
    UNDO = "bring a deleted tag back"
    DELETE = "delete a manifest"
    ERASE = "delete a blob"


class Do(NamedTuple):
    """One operation of a script."""

    verb: Verb
    reference: str
    source: int = 0  # MOUNT: the repository to take it from
    skip: int = 1  # how many operations an answer "it exists" saves, this one included
    tagged: bool = False  # PUT: under the manifest's tag, or by digest only


Script = tuple[Do, ...]


class Scenario(NamedTuple):
    """Clients, their scripts and repositories, and what is claimed about them."""

    about: str
    scripts: tuple[Script, ...]
    repositories: tuple[int, ...]  # one for each client; every repository is of another registry
    states: int  # how many can be reached: a change of this number is a change of the algorithm
    keys: int = 3  # at one time
    rests_clean: bool = True  # a client at the end of its script holds no lease, so I5' is claimed
    backs_up: bool = False  # a backup runs, and another one after it
    rots: bool = False  # the disk loses what it had synced
    impatient: bool = False  # clients give up on requests that run on (and may leave a lease behind, so no I5')


def _blob(digest: str) -> Do:
    return Do(Verb.BLOB, digest)


def _untag(manifest: str) -> Do:
    return Do(Verb.UNTAG, manifest)


def _delete(manifest: str) -> Do:
    return Do(Verb.DELETE, manifest)


def _erase(digest: str) -> Do:
    return Do(Verb.ERASE, digest)


def _put(manifest: str) -> Do:
    return Do(Verb.PUT, manifest, tagged=True)


def _put_by_digest(manifest: str) -> Do:
    return Do(Verb.PUT, manifest)


IMAGE: Script = (_blob("a"), _put("M"))
BIG_IMAGE: Script = (_blob("a"), _blob("b"), _put("N"))
NEW_VERSION: Script = (_blob("b"), _put("V"))
MOUNTED_IMAGE: Script = (Do(Verb.MOUNT, "a", source=0, skip=2), *IMAGE)
CHILD: Script = (Do(Verb.CHILD, "M", skip=3), _blob("a"), _put_by_digest("M"))
INDEX: Script = (*CHILD, _put("I"))
REFERRER: Script = (_blob("b"), _put_by_digest("R"))
REGRET: Script = (_untag("M"), Do(Verb.UNDO, "M"), _untag("M"))
BLOB_AND_BACK: Script = (_blob("a"), _erase("a"))

SCENARIOS = {
    "same repository": Scenario(
        "two push one image; one deletes it by digest, the other its tag, and regrets that",
        ((*IMAGE, _delete("M")), (*IMAGE, *REGRET)),
        (0, 0),
        states=51_544,
    ),
    "requests that run on": Scenario(
        "clients give up, ask again, and meet their own earlier request",
        ((*IMAGE, _delete("M")), IMAGE),
        (0, 1),
        states=544_157,
        impatient=True,
    ),
    "two registries": Scenario(
        "one blob in two registries, mounted from one to the other",
        ((*IMAGE, _untag("M")), (*MOUNTED_IMAGE, _delete("M"))),
        (0, 1),
        states=69_742,
    ),
    "two digests": Scenario(
        "two images share one of their layers",
        ((*IMAGE, _delete("M")), (*BIG_IMAGE, _untag("N"))),
        (0, 0),
        states=155_128,
    ),
    "three clients": Scenario(
        "three push one image, two into one repository and one into another",
        ((*IMAGE, _delete("M")), (*IMAGE, _untag("M")), (*IMAGE, _delete("M"))),
        (0, 0, 1),
        states=56_781,
        keys=2,
    ),
    "index": Scenario(
        "an index is pushed, lost and deleted while another deletes its child",
        ((*INDEX, _untag("I"), Do(Verb.UNDO, "I"), _delete("I")), (*CHILD, _delete("M"))),
        (0, 0),
        states=106_898,
        rests_clean=False,
    ),
    "referrer": Scenario(
        "an image is signed by another client than its own",
        ((*IMAGE, _untag("M")), (*REFERRER, _delete("R"))),
        (0, 0),
        states=83_519,
        rests_clean=False,
    ),
    "referrer lists its subject": Scenario(
        "an index has its own child for subject, so the two keep each other",
        ((*CHILD, _put("X"), _untag("X")), (*IMAGE, *REGRET)),
        (0, 0),
        states=107_708,
    ),
    "tag moves": Scenario(
        "two images take one tag from each other",
        (IMAGE, (*NEW_VERSION, _untag("V"))),
        (0, 0),
        states=81_467,
    ),
    "delete blob": Scenario(
        "blobs are deleted by name, with and without a manifest that lists them",
        ((*IMAGE, _erase("a"), _delete("M"), _erase("a")), BLOB_AND_BACK),
        (0, 0),
        states=35_920,
        rests_clean=False,
    ),
    "blob without manifest": Scenario(
        "blobs come and go in two registries, and no manifest ever",
        (BLOB_AND_BACK, BLOB_AND_BACK),
        (0, 1),
        states=27_506,
    ),
    "backup": Scenario(
        "backups run while an image is pushed and deleted, and a layer of it comes and goes besides",
        ((*IMAGE, _untag("M")), BLOB_AND_BACK),
        (0, 1),
        states=285_756,
        backs_up=True,
    ),
    "rot": Scenario(
        "two registries share a blob on a disk that loses bits, and push it again",
        ((*IMAGE, _delete("M")), BLOB_AND_BACK),
        (0, 1),
        states=105_976,
        rots=True,
    ),
    "alone, everything": Scenario(
        "one client pushes a referrer, its subject, an image and an index, in that order",
        ((*REFERRER, *BIG_IMAGE, *INDEX, _untag("I"), _delete("N")),),
        (0,),
        states=35_016,
    ),
}
