"""Who we are to another registry: its challenge (RFC 9110 §11, distribution's token protocol) and what answers it.

A password goes to the registry itself, or to the token service that its challenge names, and never from https to http.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from regserver.cli.exits import DENIED, FAILED, CommandError
from regserver.cli.words import plain

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*(basic|bearer)(?=\s|$)", re.IGNORECASE)
_LIFE_SECONDS = 60  # of a token whose service does not say (distribution, "Token Authentication")
_EARLY_SECONDS = 10  # a token is drawn anew before it ends in the middle of a blob

Open = Callable[[urllib.request.Request], bytes]


@dataclass(frozen=True, slots=True)
class Credentials:
    """``bearer`` is a ready token; ``password`` belongs to ``username``; ``identity`` is a refresh token."""

    username: str = ""
    password: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)
    identity: str | None = field(default=None, repr=False)

    @property
    def basic(self) -> str | None:
        if self.password is None:
            return None
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of the ways that a 401 offers. ``scheme`` is lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(lines: list[str]) -> list[Challenge]:
    """Basic and Bearer of any number of WWW-Authenticate lines; what cannot be read is left out."""
    found = []
    for line in lines:
        starts = [*_SCHEME.finditer(_unquoted(line))]
        ends = [start.start() for start in starts[1:]] + [len(line)]
        for start, end in zip(starts, ends, strict=False):
            rows = _PARAMETER.findall(line[start.end() : end])
            values = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in rows}
            found.append(Challenge(start[1].lower(), values))
    return found


def _unquoted(line: str) -> str:
    """The line with quoted text blanked out, every character in its place."""
    return re.sub(r'"(?:[^"\\]|\\.)*"', lambda match: "_" * len(match[0]), line)


class Authorization:
    """Headers for one registry, learnt from its challenges. For any number of threads."""

    def __init__(self, server: str, credentials: Credentials, open_: Open) -> None:
        self._server = server
        self._credentials = credentials
        self._open = open_
        self._lock = threading.Lock()  # of the tokens, which are kept for speed alone
        self._tokens: dict[str, tuple[str, float]] = {}
        self._is_basic = False

    def header(self, scope: str) -> str | None:
        """What is known to work for this scope, or None: then ask without."""
        if self._credentials.bearer is not None:
            return f"Bearer {self._credentials.bearer}"
        if self._is_basic:
            return self._credentials.basic
        with self._lock:
            token, ends = self._tokens.get(scope, ("", 0.0))
        return f"Bearer {token}" if time.monotonic() < ends else None

    def answer(self, scope: str, lines: list[str]) -> str:
        """A header for a registry that has answered 401. Raises CommandError where there is none."""
        challenges = {one.scheme: one for one in parse_challenges(lines)}
        if self._credentials.bearer is None and "bearer" in challenges:
            token, life = self._draw(challenges["bearer"].parameters, scope)
            with self._lock:
                self._tokens[scope] = (token, time.monotonic() + life - _EARLY_SECONDS)
            return f"Bearer {token}"
        if "basic" in challenges and (basic := self._credentials.basic) is not None:
            self._is_basic = True
            return basic
        raise self.refused()

    def refused(self) -> CommandError:
        who = plain(self._credentials.username) if self._credentials.username else "an anonymous client"
        return CommandError(
            f"{self._server} does not let {who} in",
            DENIED,
            hint="docker login there first, or give --from-username and --from-password-stdin",
        )

    def _draw(self, parameters: Mapping[str, str], scope: str) -> tuple[str, int]:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme not in {"http", "https"}:
            raise CommandError(f"{self._server} names no token service", FAILED, hint="is it a registry?")
        if realm.startswith("http://") and self._server.startswith("https://"):
            raise CommandError(
                f"{self._server} sends for a token to {plain(realm)}, without TLS", DENIED,
                hint="its administrator has to give it an https:// realm",
            )  # fmt: skip
        fields = {"service": parameters.get("service", ""), "scope": parameters.get("scope") or scope}
        document = self._asked(realm, {name: value for name, value in fields.items() if value})
        token = document.get("token") or document.get("access_token")
        life = document.get("expires_in")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise self.refused()
        return token, life if isinstance(life, int) else _LIFE_SECONDS

    def _asked(self, realm: str, fields: dict[str, str]) -> dict[str, Any]:
        if self._credentials.identity is not None:  # OAuth 2.0, what `docker login` keeps as an identity token
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity,
                "client_id": "regserver",
            }
            request = urllib.request.Request(realm, data=urlencode({**form, **fields}).encode())  # noqa: S310
        else:
            joined = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(fields)}"
            request = urllib.request.Request(joined)  # noqa: S310 - http or https, as looked at above
            if (basic := self._credentials.basic) is not None:
                request.add_unredirected_header("Authorization", basic)
        try:
            document = json.loads(self._open(request))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CommandError(f"{plain(realm)} answers no token", FAILED, hint="is that the registry's token service?")
        return document
