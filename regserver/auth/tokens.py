"""Bearer tokens: what the token service issues and every request under /v2 may carry.

A token narrows and never grants: it names the credential that it was drawn from and that credential's version, and each
request reads the live row again, so a rotation ends it at once.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regserver.auth import jws
from regserver.auth.keys import LEEWAY_SECONDS, KeyRefused, Keys
from regserver.auth.scopes import Scopes
from regserver.content.core import Core
from regserver.counting import Cache
from regserver.errors import RegistryError, Unauthorized
from regserver.model.access import Action, Kind
from regserver.model.ids import new_secret
from regserver.model.names import RepositoryName
from regserver.storage import evidence
from regserver.storage.catalog import accounts

TYPE = "at+jwt"  # RFC 9068 §2.1; a robot's password says JWT, and neither passes for the other
_HEADER = frozenset({"alg", "typ", "kid"})
_REQUIRED = ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]
# The header is parsed before its signature is known: at 512 characters it cannot nest deep enough to harm.
_FORM = re.compile(r"[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_REMEMBERED = 4096
_ALGORITHMS = ("ES256", "RS256")  # the latter of tokens that a version before this one has issued


@dataclass(frozen=True, slots=True)
class Binding:
    """The live thing that a token was drawn from: a robot's row and its version, or the administrator's token."""

    kind: Kind
    credential: str = ""  # a robot's row id, the administrator's fingerprint
    version: int = 0


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token whose signature and times are good. Whether its binding still lives is asked for every request."""

    binding: Binding
    subject: str
    session: str  # jti
    scopes: Scopes
    expires: float  # seconds since 1970, the leeway included


class Tokens:
    """``clock``: seconds since 1970."""

    def __init__(self, keys: Keys, core: Core, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._core = core
        self._clock = clock
        self._remembered: OrderedDict[bytes, Bearer] = OrderedDict()

    async def issue(self, subject: str, binding: Binding, scopes: Scopes) -> tuple[str, int]:
        """(token, seconds until it expires). Raises KeyRefused if the key that signs is lost."""
        db = self._core.db
        installation, key_id = await accounts.installation_id(db), await accounts.active_key(db)
        if key_id is None:
            raise LookupError("no key signs here yet")
        lifetime = max(60, self._core.settings.token_seconds)  # token specification: a client may assume 60 s
        now = int(self._clock())
        claims = {
            "iss": installation,
            "aud": _audience(installation),
            "sub": subject,
            "jti": new_secret(),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "kind": binding.kind.value,
            "credential": binding.credential,
            "version": binding.version,
            "access": _access_claim(scopes),
        }
        header = {"alg": "ES256", "kid": key_id, "typ": TYPE}
        return jws.sign(self._keys, key_id, header, jws.compact(claims)), lifetime

    async def verify(self, token: str) -> Bearer:
        """Raises Unauthorized, without saying what was wrong. A good signature is remembered until it expires."""
        remembered = self._remembered.get(fingerprint := hashlib.sha256(token.encode()).digest())
        self._core.numbers.cached(Cache.TOKENS, hit=remembered is not None)
        if remembered is None:
            remembered = self._remember(fingerprint, await self._verified(token))
        if remembered.expires <= self._clock():
            self._remembered.pop(fingerprint, None)
            raise Unauthorized(error="invalid_token")
        evidence.until(remembered.expires)
        return remembered

    def _remember(self, fingerprint: bytes, bearer: Bearer) -> Bearer:
        while len(self._remembered) >= _REMEMBERED:
            self._remembered.popitem(last=False)  # the oldest
        self._remembered[fingerprint] = bearer
        return bearer

    async def _verified(self, token: str) -> Bearer:
        """The algorithm is one of two literals, each with a key of its own kind, and the key one of our own
        (CVE-2022-29217, CVE-2025-24976, CVE-2026-48523)."""
        import jwt  # 0.1 s, and a server that is only pushed to with Basic never needs it

        form = _FORM.fullmatch(token)
        if form is None:
            raise Unauthorized(error="invalid_token")
        installation = await accounts.installation_id(self._core.db)
        try:
            header = jwt.get_unverified_header(token)
            key_id, algorithm = header.get("kid"), header.get("alg")
            # jwk, jku, x5c, x5u, crit, b64: a header of ours never holds them, so none is looked at.
            if header.keys() != _HEADER or header["typ"] != TYPE or not isinstance(key_id, str):
                raise Unauthorized(error="invalid_token")
            if algorithm not in _ALGORITHMS:
                raise Unauthorized(error="invalid_token")
            if not await accounts.is_known_key(self._core.db, key_id):
                raise Unauthorized(error="invalid_token")
            claims = jwt.decode(
                token,
                self._keys.token_public(key_id) if algorithm == "ES256" else self._keys.public(key_id),
                algorithms=[algorithm],
                issuer=installation,
                audience=_audience(installation),
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED, "strict_aud": True},
            )
            return _bearer(claims)
        except (jwt.PyJWTError, RegistryError, KeyRefused, ValueError, KeyError, TypeError):
            raise Unauthorized(error="invalid_token") from None


def _audience(installation: str) -> str:
    return f"{installation}/tokens"


def _access_claim(scopes: Scopes) -> list[dict[str, object]]:
    """As the token specification's "access" (distribution, "Token Authentication Implementation")."""
    claim: list[dict[str, object]] = [
        {"type": "repository", "name": str(name), "actions": [action for action in Action if action in actions]}
        for name, actions in scopes.repositories.items()
    ]
    if scopes.catalog:
        claim.append({"type": "registry", "name": "catalog", "actions": ["*"]})
    return claim


def _bearer(claims: Mapping[str, Any]) -> Bearer:
    """Raises ValueError, KeyError, TypeError, RegistryError for claims that were never ours."""
    repositories = {
        RepositoryName.parse(entry["name"]): frozenset(Action(action) for action in entry["actions"])
        for entry in claims["access"]
        if entry["type"] == "repository"
    }
    catalog = any(entry["type"] == "registry" for entry in claims["access"])
    return Bearer(
        binding=Binding(Kind(claims["kind"]), str(claims["credential"]), int(claims["version"])),
        subject=str(claims["sub"]),
        session=str(claims["jti"]),
        scopes=Scopes(repositories, catalog),
        expires=float(claims["exp"]) + LEEWAY_SECONDS,
    )
