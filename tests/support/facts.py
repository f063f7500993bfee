"""One client, one request at a time, and what each path may answer after a crash, known from the answers alone."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import encode_basic_auth

ANSWER_SECONDS = 30.0
Content = bytes | None  # None: there is nothing


class Broken(Exception):
    """The connection broke before the answer was whole: done or not, nobody knows."""


class Refused(Exception):
    """503: not done, or done as a whole and not promised; and nothing else went wrong."""


class Reply:
    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def data(self) -> Any:
        """Of an answer of /v1."""
        return json.loads(self.body)["data"]


class Client:
    """Somebody with a password at a server. No answer may say that the server has met a fault of its own.

    ``patient``: whose disk fails, so that a 503 is no surprise.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.patient = False
        self._host = urllib.parse.urlsplit(url).netloc
        self._authorization = encode_basic_auth(user, password)
        self._connection = http.client.HTTPConnection(self._host, timeout=ANSWER_SECONDS)

    def try_send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Raises Broken."""
        lines = {"Authorization": self._authorization, **(headers or {})}
        try:
            self._connection.request(method, path, body=body, headers=lines)
            answer = self._connection.getresponse()
            reply = Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Broken from error
        assert reply.status < 500 or reply.status == 503, f"{method} {path}: {reply.status} {reply.body[:2000]!r}"
        return reply

    def send(
        self,
        method: str,
        path: str,
        *expected: int,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """AssertionError if the status is none of the expected. Raises Broken, Refused."""
        reply = self.try_send(method, path, body, headers)
        if self.patient and reply.status == 503 and 503 not in expected:
            assert int(reply.headers["Retry-After"]) > 0
            raise Refused(f"{method} {path}")
        assert reply.status in expected, f"{method} {path}: {reply.status} {reply.body[:2000]!r}"
        return reply

    def read(self, path: str) -> Content:
        """What is under a path; None where nothing is."""
        reply = self.send("GET", path, 200, 404)
        return reply.body if reply.status == 200 else None

    def close(self) -> None:
        self._connection.close()


class Facts:
    """``allowed``: path → what a GET of it may bring."""

    def __init__(self, allowed: Mapping[str, set[Content]] | None = None) -> None:
        self.allowed: dict[str, set[Content]] = {path: set(contents) for path, contents in (allowed or {}).items()}

    def copy(self) -> Facts:
        return Facts(self.allowed)

    @contextlib.contextmanager
    def change(self, outcomes: Mapping[str, Content]) -> Iterator[None]:
        """Around the request that brings these about: an answer makes them certain, a broken connection possible."""
        for path, content in outcomes.items():
            self.allowed.setdefault(path, {None}).add(content)
        yield
        for path, content in outcomes.items():
            self.allowed[path] = {content}

    def may_go(self, *paths: str) -> None:
        """From now on there may be nothing under these."""
        for path in paths:
            self.allowed.setdefault(path, {None}).add(None)

    def check(self, client: Client) -> None:
        """AssertionError if a path brings what it must not; what it brings is the truth from then on."""
        for path, allowed in self.allowed.items():
            found = client.read(path)
            assert found in allowed, f"{path} brings {_shown(found)}, not {' or '.join(map(_shown, allowed))}"
            self.allowed[path] = {found}


def _shown(content: Content) -> str:
    return "nothing" if content is None else f"{len(content)} bytes of sha256:{hashlib.sha256(content).hexdigest()}"
