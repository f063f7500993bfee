"""Another registry, to be read: any that speaks the distribution spec. What it sends is not believed but hashed."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

from regserver import __version__
from regserver.cli.api import ANSWER_SECONDS, Unreachable, is_short
from regserver.cli.challenges import Authorization, Credentials
from regserver.cli.distribution import ACCEPT, CHUNK, Absent, Served
from regserver.cli.exits import DENIED, FAILED, UNREACHABLE, CommandError
from regserver.cli.words import plain
from regserver.errors import RegistryError
from regserver.model.digest import Digest
from regserver.model.mediatypes import DOCKER_SCHEMA1, bare

PER_PAGE = 1000
LONGEST_DOCUMENT = 2**25
_WAITS = (1, 2, 4)  # seconds before each further try of what has failed for now
_PASSING = frozenset({429, 500, 502, 503, 504})
_CATALOG = "registry:catalog:*"


class Remote:
    """A registry by its address. Safe for several threads."""

    def __init__(self, server: str, credentials: Credentials) -> None:
        self.server = server
        self._opener = urllib.request.build_opener(_Redirects)
        self._authorization = Authorization(server, credentials, self._whole)
        self._lacks_referrers = False

    def catalog(self) -> list[str]:
        """Names of all repositories. Raises CommandError where the registry does not list them."""
        try:
            return [str(name) for name in self._pages(f"/v2/_catalog?n={PER_PAGE}", _CATALOG, "repositories")]
        except CommandError as error:
            if isinstance(error, Absent) or error.code == DENIED:
                hint = "; ".join(
                    filter(None, (error.hint, "where no list is given, name each image: --image team/app"))
                )
                raise type(error)(f"{error.message}; it lists no images", error.code, hint=hint) from None
            raise

    def tags(self, name: str) -> list[str]:
        """All of them; none where the repository is not there, which is how some say that it is empty."""
        try:
            return [str(tag) for tag in self._pages(f"/v2/{name}/tags/list?n={PER_PAGE}", _pull(name), "tags")]
        except Absent:
            return []

    def digest(self, name: str, reference: str) -> str | None:
        """What the reference names now, by a HEAD; None where the registry does not say. Raises Absent."""
        with self._ask(f"/v2/{name}/manifests/{reference}", _pull(name), {"Accept": ACCEPT}, "HEAD") as answer:
            told = answer.headers.get("Docker-Content-Digest")
        return told if told and is_digest(told) else None

    def manifest(self, name: str, reference: str) -> Served:
        """Its bytes as they are, and hashed. Raises Absent, and CommandError for what is none."""
        with self._ask(f"/v2/{name}/manifests/{reference}", _pull(name), {"Accept": ACCEPT}) as answer:
            content, headers = self._read(answer), answer.headers
        told, media_type = headers.get("Docker-Content-Digest"), bare(headers.get("Content-Type", ""))
        if media_type in DOCKER_SCHEMA1:
            raise CommandError(
                f"{name}: {plain(reference)} is in Docker's format of before 2017 (schema 1)", FAILED,
                hint="pull it with a current docker and push it again; nothing else can read it either",
            )  # fmt: skip
        wanted = reference if ":" in reference else told or str(Digest.of(content))
        if not _is(content, wanted):
            raise self.damaged(name, wanted)
        return Served(_named_in(content) or media_type, wanted, content)

    def blob(self, name: str, digest: str) -> Iterator[bytes]:
        """Its bytes, unchecked. Raises Absent."""
        with self._ask(f"/v2/{name}/blobs/{digest}", _pull(name)) as answer:
            try:
                while chunk := answer.read(CHUNK):
                    yield chunk
            except (OSError, HTTPException) as error:
                raise Unreachable(self.server, error) from None

    def referrers(self, name: str, digest: str) -> list[str] | None:
        """Digests of what has this as its subject; None where the registry does not know the question."""
        if self._lacks_referrers:
            return None
        try:
            rows = self._pages(f"/v2/{name}/referrers/{digest}", _pull(name), "manifests")
        except Absent:  # distribution spec 1.1: 404 says that it is not supported
            self._lacks_referrers = True
            return None
        given = [str(row.get("digest")) for row in rows if isinstance(row, dict)]
        return [digest for digest in given if is_digest(digest)]

    def damaged(self, name: str, digest: str) -> CommandError:
        return CommandError(f"{name}: {self.server} sent other bytes than {plain(digest)}", hint="look at its disk")

    def _pages(self, path: str, scope: str, key: str) -> list[Any]:
        """A list to its last page, as ``Link`` says (RFC 8288), which may lead to this server alone."""
        found: list[Any] = []
        seen: set[str] = set()
        target: str | None = path
        while target is not None and target not in seen:
            seen.add(target)
            with self._ask(target, scope) as answer:
                content, link = self._read(answer), answer.headers.get("Link")
            try:
                found += json.loads(content).get(key) or []
            except (ValueError, AttributeError, TypeError):
                hint = "does this address lead to a registry's /v2?"
                raise CommandError(
                    f"{self.server} does not answer as a registry does", UNREACHABLE, hint=hint
                ) from None
            target = _following(link, target)
        return found

    def _ask(
        self, path: str, scope: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> closing[Any]:
        """The answer, open. One 401 is answered; what fails for now is tried again."""
        lines = {"User-Agent": f"regserver/{__version__}", **(headers or {})}
        authorization, is_answered = self._authorization.header(scope), False
        while True:
            request = urllib.request.Request(self.server + path, headers=lines, method=method)  # noqa: S310
            if authorization is not None:
                request.add_header("Authorization", authorization)
            try:
                return closing(self._patient(request))
            except urllib.error.HTTPError as error:
                with error:
                    challenges = error.headers.get_all("WWW-Authenticate") or []
                    if error.code != 401:
                        raise self._refusal(error) from None
            if is_answered:
                raise self._authorization.refused()
            authorization, is_answered = self._authorization.answer(scope, challenges), True

    def _patient(self, request: urllib.request.Request) -> Any:
        """Raises HTTPError for an answer that stands, Unreachable for none."""
        for wait in (*_WAITS, None):
            try:
                return self._opener.open(request, timeout=ANSWER_SECONDS)
            except urllib.error.HTTPError as error:
                told = error.headers.get("Retry-After", "")
                if wait is None or error.code not in _PASSING:
                    raise
                error.close()
                wait = int(told) if is_short(told) else wait
            except (OSError, HTTPException) as error:
                if wait is None or isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                    raise Unreachable(self.server, error) from None
            time.sleep(wait)
        raise AssertionError("the last try ends it")

    def _whole(self, request: urllib.request.Request) -> bytes:
        """The answer of a token service."""
        request.add_header("User-Agent", f"regserver/{__version__}")
        try:
            with self._patient(request) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in {400, 401, 403}:
                    raise self._authorization.refused() from None
                raise self._refusal(error) from None

    def _read(self, answer: Any) -> bytes:
        try:
            content = bytes(answer.read(LONGEST_DOCUMENT + 1))
        except (OSError, HTTPException) as error:
            raise Unreachable(self.server, error) from None
        if len(content) > LONGEST_DOCUMENT:
            raise CommandError(f"{self.server} sends more than 32 MiB where a document should be", FAILED)
        return content

    def _refusal(self, error: urllib.error.HTTPError) -> CommandError:
        if error.code == 404:
            return Absent(f"{self.server} has no {urlsplit(error.url).path.removeprefix('/v2/')}")
        if error.code == 403:
            return self._authorization.refused()
        code = UNREACHABLE if error.code in _PASSING else FAILED
        return CommandError(f"{self.server} answers {error.code}", code, hint="try again later")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Blobs may lie elsewhere; what authorises us here is not for there."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in {"http", "https"}:
            return None
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and _origin(new.full_url) != _origin(req.full_url):
            new.remove_header("Authorization")
        return new


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _following(link: str | None, from_: str) -> str | None:
    match = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', link or "")
    if match is None:
        return None
    parts = urlsplit(urljoin(from_, match[1]))
    return f"{parts.path}?{parts.query}" if parts.path.startswith("/v2/") else None


def _pull(name: str) -> str:
    return f"repository:{name}:pull"


def is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except RegistryError:
        return False
    return True


def _is(content: bytes, digest: str) -> bool:
    return is_digest(digest) and str(Digest.of(content, Digest(digest).algorithm)) == digest


def _named_in(content: bytes) -> str | None:
    """A manifest's own media type goes before the header's: some servers and proxies say application/json."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    named = document.get("mediaType") if isinstance(document, dict) else None
    return named if isinstance(named, str) and named else None
