"""What clients do at a small registry while it crashes. Each script can be run again after the crash, to its end.

``Town`` is what they find: images that stay, images to delete, garbage to collect, an upload that is half done.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from support.facts import Client, Content, Facts, Refused
from support.ledger import IMAGE, OCTETS, Image, digest_of

REPOSITORY, OTHER, CLOSING = "/v2/my/api", "/v2/my/web", "/v2/closing/api"
JOB_SECONDS = 30.0
_BYTES = {"Content-Type": OCTETS}


def content(name: str, size: int = 3000) -> bytes:
    """The same bytes for a name in every run."""
    return random.Random(name).randbytes(size)


KEPT, MOVED, DOOMED, UNTAGGED = (Image((b"{}", content("shared"), content(name))) for name in ("a", "b", "c", "d"))
NEW = Image((b"{}", content("shared"), content("new 1"), content("new 2")))
HALVES = content("first half", 100_000), content("second half", 100_000)
LOOSE = content("loose")  # a blob that no manifest lists


@dataclass
class Town:
    """``registry``: its id; ``closing``: that of one to be deleted. ``robot``: its name and password.

    ``upload``: where the half upload goes on.
    """

    registry: str = ""
    closing: str = ""
    robot: tuple[str, str] = ("", "")
    upload: str = ""
    facts: Facts = field(default_factory=Facts)

    def copy(self) -> Town:
        return dataclasses.replace(self, facts=self.facts.copy())


Script = Callable[[Client, Town], None]


def build(client: Client) -> Town:
    """Fills an empty registry."""
    town = Town(*(_make_registry(client, name) for name in ("my", "closing")))
    town.robot = _login(client, town)
    put_blob(client, town, content("closing"), CLOSING)
    put_blob(client, town, content("shared"), CLOSING)
    for name, image in (("keep", KEPT), ("move", MOVED), ("doomed", DOOMED), ("untagged", UNTAGGED)):
        push_image(client, town, name, image)
    put_blob(client, town, LOOSE)
    with town.facts.change({_tag("untagged"): None}):
        client.send("DELETE", _tag("untagged"), 202)
    started = client.send("POST", f"{REPOSITORY}/blobs/uploads/", 202)
    town.upload = started.headers["Location"]
    client.send("PATCH", town.upload, 202, body=HALVES[0], headers=_BYTES)
    return town


_JSON = {"Content-Type": "application/json"}


def _make_registry(client: Client, name: str) -> str:
    body = json.dumps({"name": name}).encode()
    return str(client.send("POST", "/v1/registries", 201, body=body, headers=_JSON).data["id"])


def _tag(name: str, repository: str = REPOSITORY) -> str:
    return f"{repository}/manifests/{name}"


def _blob(data: bytes, repository: str = REPOSITORY) -> str:
    return f"{repository}/blobs/{digest_of(data)}"


def _login(client: Client, town: Town) -> tuple[str, str]:
    given = client.send("GET", f"/v1/registries/{town.registry}/credentials", 200).data
    return given["username"], given["password"]


# ---- push, mount


def put_blob(client: Client, town: Town, data: bytes, repository: str = REPOSITORY) -> None:
    """In one request."""
    with town.facts.change({_blob(data, repository): data}):
        client.send("POST", f"{repository}/blobs/uploads/?digest={digest_of(data)}", 201, body=data, headers=_BYTES)


def send_blob(client: Client, town: Town, data: bytes) -> None:
    """In three."""
    location = client.send("POST", f"{REPOSITORY}/blobs/uploads/", 202).headers["Location"]
    client.send("PATCH", location, 202, body=data, headers=_BYTES)
    with town.facts.change({_blob(data): data}):
        client.send("PUT", f"{location}?digest={digest_of(data)}", 201)


def put_manifest(client: Client, town: Town, name: str, image: Image, repository: str = REPOSITORY) -> None:
    both: dict[str, Content] = {_tag(reference, repository): image.manifest for reference in (name, image.digest)}
    with town.facts.change(both):
        client.send("PUT", _tag(name, repository), 201, body=image.manifest, headers={"Content-Type": IMAGE})


def push_image(client: Client, town: Town, name: str, image: Image) -> None:
    for data in image.blobs:
        put_blob(client, town, data)
    put_manifest(client, town, name, image)


def push(client: Client, town: Town) -> None:
    """A blob in three requests, one in one, one that is there already; a manifest under a tag that moves to it."""
    first, known, *others = NEW.blobs
    for data in (first, *others[:1]):
        put_blob(client, town, data)
    send_blob(client, town, others[1])
    send_blob(client, town, known)
    put_manifest(client, town, "move", NEW)


def mount(client: Client, town: Town) -> None:
    for data in KEPT.blobs:
        with town.facts.change({_blob(data, OTHER): data}):
            client.send("POST", f"{OTHER}/blobs/uploads/?mount={digest_of(data)}&from=my/api", 201)
    put_manifest(client, town, "mounted", KEPT, OTHER)


# ---- delete, collect


def delete(client: Client, town: Town) -> None:
    """A tag, a manifest with its tag, a blob, an upload. What the crash has let happen is not there any more."""
    with town.facts.change({_tag("move"): None}):
        client.send("DELETE", _tag("move"), 202, 404)
    with town.facts.change({_tag("doomed"): None, _tag(DOOMED.digest): None}):
        client.send("DELETE", _tag(DOOMED.digest), 202, 404)
    with town.facts.change({_blob(LOOSE): None}):
        client.send("DELETE", _blob(LOOSE), 202, 404)
    client.send("DELETE", town.upload, 204, 404)


COLLECTED = (_tag(UNTAGGED.digest), _blob(UNTAGGED.blobs[2]))


def collect(client: Client, town: Town) -> None:
    """What nothing holds goes, and all of it by the time that the job has ended."""
    for name, image in (("move", MOVED), ("move", NEW), ("doomed", DOOMED)):
        if town.facts.allowed[_tag(name)] != {image.manifest}:  # it has lost its tag, or may have
            town.facts.may_go(_tag(image.digest), *(_blob(data) for data in image.blobs[2:]))
    with town.facts.change({path: None for path in COLLECTED}):
        job = client.send("POST", f"/v1/registries/{town.registry}/gc", 200).data["job_id"]
        wait_for_job(client, town, job)


def close_registry(client: Client, town: Town) -> None:
    """Deletes a registry with what is in it. It is unknown at once; its bytes go in the background."""
    gone: dict[str, Content] = {_blob(content(name), CLOSING): None for name in ("closing", "shared")}
    with town.facts.change(gone):
        client.send("DELETE", f"/v1/registries/{town.closing}?force=true", 204, 404)


def wait_for_job(client: Client, town: Town, job: str) -> None:
    until = time.monotonic() + JOB_SECONDS
    while True:
        shown = client.send("GET", f"/v1/registries/{town.registry}/gc/{job}", 200).data
        if shown["status"] != "running":
            if client.patient and shown["status"] == "failed":
                raise Refused(shown["error"])
            assert shown["status"] == "completed", shown
            return
        assert time.monotonic() < until, shown
        time.sleep(0.01)


# ---- rotate


def rotate(client: Client, town: Town) -> None:
    """The robot's password, twice, and another robot that comes and goes."""
    base = f"/v1/registries/{town.registry}"
    for body in (b"{}", b'{"grace_seconds": 600}'):
        given = client.send("POST", f"{base}/rotate-credentials", 200, body=body, headers=_JSON).data
        town.robot = given["username"], given["password"]
    made = client.try_send("POST", f"{base}/robots", json.dumps({"name": "ci"}).encode(), _JSON)
    assert made.status in (201, 409), made.body
    for robot in client.send("GET", f"{base}/robots", 200).data:
        if robot["name"] == "ci":
            client.send("POST", f"{base}/robots/{robot['id']}/rotate", 200)
            client.send("DELETE", f"{base}/robots/{robot['id']}", 204)


def check_login(client: Client, town: Town, url: str) -> None:
    """The password that the API shows is the one that logs in; the earlier one does so only if it is still that."""
    shown, before = _login(client, town), town.robot
    for login in {shown, before}:
        robot = Client(url, *login)
        asked = robot.try_send("GET", "/token?scope=repository:my/api:pull").status
        robot.close()
        assert asked in ((200,) if login == shown else (200, 401)), login
    town.robot = shown


# ---- resume


def resume(client: Client, town: Town) -> None:
    """The second half of an upload, from where the server says it stands. A session that has gone is begun anew."""
    whole = b"".join(HALVES)
    if client.read(_blob(whole)) is not None:
        return
    asked = client.send("GET", town.upload, 204, 404)
    offset = _offset(asked.headers["Range"]) if asked.status == 204 else 0
    if asked.status == 404:
        town.upload = client.send("POST", f"{REPOSITORY}/blobs/uploads/", 202).headers["Location"]
    if offset < len(whole):
        chunk = {**_BYTES, "Content-Range": f"{offset}-{len(whole) - 1}"}
        client.send("PATCH", town.upload, 202, body=whole[offset:], headers=chunk)
    with town.facts.change({_blob(whole): whole}):
        client.send("PUT", f"{town.upload}?digest={digest_of(whole)}", 201)


def _offset(received: str) -> int:
    """``0-99`` is 100 bytes; ``0-0`` is none."""
    last = int(received.partition("-")[2])
    return last + 1 if last else 0
