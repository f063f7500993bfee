"""The /v1 API as a client sees it: one request at a time, every refusal a CommandError that says what to do next."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from regserver import __version__
from regserver.cli.exits import CONFLICT, DENIED, FAILED, NOT_FOUND, UNREACHABLE, USAGE, CommandError, NoSuchResource

ANSWER_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 30
PER_PAGE = 100
_RETRIES = 3

_EXITS = {400: USAGE, 413: USAGE, 415: USAGE, 422: USAGE, 401: DENIED, 403: DENIED, 404: NOT_FOUND, 409: CONFLICT,
          412: CONFLICT, 429: UNREACHABLE}  # fmt: skip
_AGENT = {"User-Agent": f"regserver/{__version__}"}
_HINTS = {
    "already_exists": "choose another name",
    "not_empty": "delete its images first, or add --force",
    "not_ready": "try again in a moment",
    "precondition_failed": "look at it again, then repeat the command",
    "not_restorable": "push it again",
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def document(self) -> Any:
        """The parsed body, or None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Api:
    """``token`` may be None: a server with ``--dev`` needs none. ``source`` says where the token is from."""

    def __init__(self, server: str, token: str | None, source: str = "") -> None:
        self.server = server
        self.token = token
        self._source = source
        # No redirect is followed: the token is for this server and no other.
        self._opener = urllib.request.build_opener(NoRedirect)

    def get(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        return self.send("GET", path, query=query)

    def pages(
        self,
        path: str,
        query: Mapping[str, str | None] | None = None,
        limit: int | None = None,
        *,
        method: str = "GET",
        body: object | None = None,
    ) -> list[Any]:
        """All items of a list, at most ``limit``: from page to page as ``Link`` says (RFC 8288), so that what is
        added or taken meanwhile shifts nothing that a list itself can hold still."""
        per_page = PER_PAGE if limit is None else min(limit, PER_PAGE)
        target: str | None = _target(path, {**(query or {}), "per_page": str(per_page)})
        found: list[Any] = []
        while target is not None and (limit is None or len(found) < limit):
            answer = self._accepted(method, target, body, {})
            found += self._document(answer)["data"]
            target = _following(answer.headers.get("Link"))
        return found[:limit]

    def send(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's ``data``; None for 204. ``path`` is below /v1, encoded. Raises CommandError."""
        answer = self._accepted(method, _target(path, query or {}), body, headers or {})
        return None if answer.status == 204 else self._document(answer)["data"]

    def etagged(self, path: str) -> tuple[Any, str | None]:
        """The data and the ETag to change it with."""
        answer = self._accepted("GET", _target(path, {}), None, {})
        return self._document(answer)["data"], answer.headers.get("ETag")

    def answers(self, path: str, headers: Mapping[str, str]) -> int:
        """The status of a GET with these headers and no token."""
        return self._request("GET", path, None, headers).status

    def lines(
        self, path: str, query: Mapping[str, str | None], headers: Mapping[str, str], silence: float
    ) -> Iterator[str]:
        """An answer that goes on, line by line, until it ends. ``silence``: seconds. Raises CommandError."""
        target = self.server + _target(path, query)
        request = urllib.request.Request(target, headers={**_AGENT, **self._authorization(), **headers})  # noqa: S310
        try:
            with self._opener.open(request, timeout=silence) as response:
                yield from (line.decode(errors="replace").rstrip("\r\n") for line in response)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(Answer(error.code, error.headers, error.read())) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.server, error) from None

    def _document(self, answer: Answer) -> Any:
        """What a regserver answers: an object with ``data``."""
        document = answer.document
        if not isinstance(document, dict) or "data" not in document:
            raise self._stranger(answer)
        return document

    def _accepted(self, method: str, target: str, body: object | None, headers: Mapping[str, str]) -> Answer:
        lines = {**self._authorization(), **headers}
        answer = self._request(method, target, body, lines)
        for _ in range(_RETRIES):
            wait = answer.headers.get("Retry-After", "1")
            # 429: nothing was done, whatever the method, so it may be asked again.
            if answer.status != 429 or not is_short(wait):
                break
            time.sleep(int(wait))
            answer = self._request(method, target, body, lines)
        if 200 <= answer.status < 300:
            return answer
        raise self._refusal(answer)

    def _authorization(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def _request(self, method: str, target: str, body: object | None, headers: Mapping[str, str]) -> Answer:
        lines = {**_AGENT, "Accept": "application/json", **headers}
        content = None
        if body is not None:
            content, lines["Content-Type"] = json.dumps(body).encode(), "application/json"
        url = self.server + target
        try:
            # The scheme is http or https: `settings.server_url` takes no other.
            request = urllib.request.Request(url, data=content, headers=lines, method=method)  # noqa: S310
            with self._opener.open(request, timeout=ANSWER_SECONDS) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.server, error) from None

    def _refusal(self, answer: Answer) -> CommandError:
        document = answer.document
        error = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error, dict):
            return self._stranger(answer)
        code = _EXITS.get(answer.status, UNREACHABLE if answer.status >= 500 else FAILED)
        message = "; ".join(_faults(error.get("details"))) or str(error.get("message"))
        if answer.status >= 500:
            message += f" (request {error.get('request_id')})"
        kind = NoSuchResource if answer.status == 404 else CommandError
        return kind(message, code, hint=self._hint(answer.status, str(error.get("code"))))

    def _hint(self, status: int, code: str) -> str:
        if status == 401 and self.token is None:
            return "the server wants a token: give --token, set REGSERVER_TOKEN, or run: regserver login"
        if status == 401:
            return f"the server does not take the token from {self._source}; run: regserver login {self.server}"
        if status == 403:
            return "another token is needed, one with the scope admin"
        if status == 429 or status >= 500:
            return "try again later"
        return _HINTS.get(code, "")

    def _stranger(self, answer: Answer) -> CommandError:
        if moved := answer.headers.get("Location") if 300 <= answer.status < 400 else None:
            return CommandError(f"{self.server} redirects to {moved}", UNREACHABLE, hint="name that one with --server")
        hint = "something between may have answered; --server names the registry itself"
        return CommandError(
            f"{self.server} answers {answer.status}, and not as a regserver does", UNREACHABLE, hint=hint
        )


class Unreachable(CommandError):
    """No answer, or none that came whole: why, and what to do about it."""

    def __init__(self, server: str, error: Exception) -> None:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        hint = "is it running? --server URL or REGSERVER_SERVER names another"
        if isinstance(reason, ssl.SSLCertVerificationError):
            said, hint = reason.verify_message, "SSL_CERT_FILE names a file with the certificate to trust"
        elif isinstance(reason, ssl.SSLError):
            said, hint = "it does not speak TLS", "does its address begin with http:// ?"
        elif isinstance(reason, TimeoutError):
            said = "no answer in time"
        else:
            said = (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__
        super().__init__(f"cannot reach {server}: {said}", UNREACHABLE, hint=hint)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _target(path: str, query: Mapping[str, str | None]) -> str:
    fields = {name: value for name, value in query.items() if value is not None}
    return f"/v1{path}" + (f"?{urlencode(fields)}" if fields else "")


def _following(link: str | None) -> str | None:
    """The next page's path and query; whatever host the link names, the same server is asked."""
    match = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', link or "")
    if match is None:
        return None
    parts = urlsplit(match[1])
    return f"{parts.path}?{parts.query}"


def is_short(wait: str) -> bool:
    return wait.isascii() and wait.isdigit() and int(wait) <= LONGEST_WAIT_SECONDS


def _faults(details: Any) -> list[str]:
    """Each wrong field in words."""
    rows = [row for row in details if isinstance(row, dict)] if isinstance(details, list) else []
    return [f"{row['field']} {row['message']}" for row in rows if "field" in row and "message" in row]


def part(text: str) -> str:
    """One part of a path: a slash in it is part of the name."""
    return quote(text, safe="")
