"""The registry's /v2 as a client sees it: manifests and blobs of one image, every refusal a CommandError."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPException
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from regserver import __version__
from regserver.cli.api import ANSWER_SECONDS, NoRedirect, Unreachable, is_short
from regserver.cli.exits import CONFLICT, DENIED, FAILED, NOT_FOUND, UNREACHABLE, USAGE, CommandError
from regserver.cli.session import Session
from regserver.cli.words import plain
from regserver.model.digest import Digest
from regserver.model.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, bare

CHUNK = 2**20
_PER_PAGE = 1000
_TRIES = 4  # of a request that is answered 429
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*;q=0.1"))
_EXITS = {400: USAGE, 413: USAGE, 401: DENIED, 403: DENIED, 404: NOT_FOUND, 405: CONFLICT, 412: CONFLICT}


class Absent(CommandError):
    """404."""


class Served(NamedTuple):
    media_type: str
    digest: str
    content: bytes


class Repository:
    """An image of a server. ``password`` is a robot's, or None for a server that is open."""

    def __init__(self, server: str, name: str, username: str = "", password: str | None = None) -> None:
        self.name = name
        self._server = server
        self._headers = {"User-Agent": f"regserver/{__version__}"}
        if password is not None:
            login = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        # No redirect is followed: the password is for this server and no other.
        self._opener = urllib.request.build_opener(NoRedirect)

    def tags(self) -> list[str]:
        """All of them, in order."""
        found: list[str] = []
        while True:
            last = f"&last={found[-1]}" if found else ""
            with self._ask("GET", f"tags/list?n={_PER_PAGE}{last}") as answer:
                page = json.loads(answer.read()).get("tags") or []
            found += page
            if len(page) < _PER_PAGE:
                return found

    def manifest(self, reference: str) -> Served:
        """By tag or digest; its bytes are what the digest says. Raises Absent."""
        with self._ask("GET", f"manifests/{reference}", headers={"Accept": ACCEPT}) as answer:
            content, headers = answer.read(), answer.headers
        told = reference if ":" in reference else headers.get("Docker-Content-Digest", "")
        algorithm = told.partition(":")[0]
        actual = f"{algorithm}:{_hash(algorithm, content)}" if algorithm in {"sha256", "sha512"} else ""
        if actual != told or not told:
            raise self.damaged(told or reference)
        return Served(bare(headers.get("Content-Type", "")), told, content)

    def digest(self, reference: str) -> str | None:
        """What the reference names now, or None. A manifest asked for by digest is then kept for this push."""
        try:
            with self._ask("HEAD", f"manifests/{reference}", headers={"Accept": ACCEPT}) as answer:
                return str(answer.headers.get("Docker-Content-Digest"))
        except Absent:
            return None

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject this is."""
        with self._ask("GET", f"referrers/{digest}") as answer:
            return list(json.loads(answer.read()).get("manifests") or [])

    def blob(self, digest: str) -> Iterator[bytes]:
        """Its bytes, unchecked. Raises Absent."""
        with self._ask("GET", f"blobs/{digest}") as answer:
            try:
                while chunk := answer.read(CHUNK):
                    yield chunk
            except (OSError, HTTPException) as error:
                raise Unreachable(self._server, error) from None

    def has_blob(self, digest: str) -> bool:
        """From then on the server keeps it for this push."""
        try:
            with self._ask("HEAD", f"blobs/{digest}"):
                return True
        except Absent:
            return False

    def push_blob(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        """In one request (end-4b): the server says 201 only to what is its digest."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._ask("POST", f"blobs/uploads/?digest={digest}", chunks, headers):
            return

    def begin_blob(self, digest: str) -> str | None:
        """Where to send it (end-4a), or None: another image of the registry has it, and now this one too (end-11)."""
        with self._ask("POST", f"blobs/uploads/?mount={digest}", b"") as answer:
            if answer.status == 201:
                return None
            location = urlsplit(str(answer.headers.get("Location")))
        query = f"{location.query}&" if location.query else ""
        return f"{location.path.rpartition(f'/v2/{self.name}/')[2]}?{query}digest={digest}"

    def finish_blob(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        """``path`` is what ``begin_blob`` gave (end-6): 201 only to what is its digest."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._ask("PUT", path, chunks, headers):
            return

    def push_manifest(self, reference: str, media_type: str, content: bytes) -> None:
        with self._ask("PUT", f"manifests/{reference}", content, {"Content-Type": media_type}):
            return

    def damaged(self, digest: str) -> CommandError:
        return CommandError(
            f"{self.name}: the server sent other bytes than {plain(digest)}", hint="try again; then look at its disk"
        )

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> closing[Any]:
        """The answer, open. A body that is no bytes is sent once: where it was refused for now, the command ends."""
        url = f"{self._server}/v2/{self.name}/{path}"
        request = urllib.request.Request(  # noqa: S310 - http or https: `settings.server_url` takes no other
            url, data=body, headers={**self._headers, **(headers or {})}, method=method
        )
        for tries_left in reversed(range(_TRIES if body is None or isinstance(body, bytes) else 1)):
            try:
                return closing(self._opener.open(request, timeout=ANSWER_SECONDS))
            except urllib.error.HTTPError as error:
                with error:
                    wait = error.headers.get("Retry-After", "1")
                    if error.code != 429 or not tries_left or not is_short(wait):
                        raise self._refusal(error.code, error) from None
                time.sleep(int(wait))
            except (OSError, HTTPException) as error:
                raise Unreachable(self._server, error) from None
        raise AssertionError("a request is tried at least once")

    def _refusal(self, status: int, answer: IO[bytes]) -> CommandError:
        try:
            first = json.loads(answer.read(CHUNK))["errors"][0]
            said = plain(first.get("message") or first.get("code"))
        except (ValueError, LookupError, TypeError, AttributeError):
            said = f"the server answers {status}"
        code = _EXITS.get(status, UNREACHABLE if status >= 500 or status == 429 else FAILED)
        kind = Absent if status == 404 else CommandError
        return kind(f"{self.name}: {said}", code, hint=_HINTS.get(code, ""))


_HINTS = {
    DENIED: "a token for this registry is needed: --token, REGSERVER_TOKEN, or run: regserver login",
    UNREACHABLE: "try again later",
}


def repository(session: Session, registry: str, image: str) -> Repository:
    """The image at the session's server, as the registry's own robot: its password comes over /v1, by the token."""
    if session.api.token is None:
        return Repository(session.api.server, f"{registry}/{image}")
    found = session.registry(registry)
    given = session.api.get(f"/registries/{found['id']}/credentials")
    return Repository(session.api.server, f"{found['name']}/{image}", given["username"], given["password"])


def verified(digest: str, size: int, chunks: Iterable[bytes], refused: CommandError) -> Iterator[bytes]:
    """The chunks as they come; raises ``refused`` in place of an end where they were not what the digest says."""
    known = Digest.parse(digest)
    hasher, left = known.algorithm.hasher(), size
    for chunk in chunks:
        hasher.update(chunk)
        left -= len(chunk)
        if left < 0:
            raise refused
        yield chunk
    if left != 0 or hasher.hexdigest() != known.hex:
        raise refused


def _hash(algorithm: str, content: bytes) -> str:
    return hashlib.new(algorithm, content).hexdigest()
