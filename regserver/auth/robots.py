"""Robots: the accounts that push and pull. ``robot$<registry>``, and a password that is a signed token of its own kind.

No secret is stored: the row keeps the claims as text and the id of the key. RS256 gives the same signature for them
every time, so the password is minted again wherever it is shown or checked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from dataclasses import replace
from functools import lru_cache, partial

from regserver.auth import jws
from regserver.auth.keys import KeyRefused, Keys
from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action
from regserver.model.audit import SERVER, Actor, AuditAction
from regserver.model.ids import new_id, new_secret
from regserver.model.times import now_ms
from regserver.storage.catalog import accounts, audit
from regserver.storage.catalog.accounts import CredentialRow, Previous
from regserver.storage.sql.port import Transaction

logger = logging.getLogger(__name__)

PREFIX = "robot$"
_NAME = re.compile(r"robot\$[a-z0-9._+-]{1,255}", re.ASCII)
_HEADER = {"alg": "RS256", "typ": "JWT"}  # exactly this, as the management API shows it
_LIFETIME_SECONDS = 100 * 365 * 86400
_REMEMBERED = 4096


def username(registry_name: str) -> str:
    return PREFIX + registry_name


class Robots:
    def __init__(self, keys: Keys, core: Core) -> None:
        self._keys = keys
        self._core = core
        # A digest depends on nothing but its arguments, so remembering it cannot contradict the catalog.
        self._digest = lru_cache(maxsize=_REMEMBERED)(self._mint_digest)

    async def create(
        self, tx: Transaction, registry_id: str, registry_name: str, actions: frozenset[Action] = frozenset(Action)
    ) -> None:
        """The registry's robot, in the transaction that makes the registry. Raises IntegrityFailed if it has one."""
        name = username(registry_name)
        key_id, claims = await self._claims(tx, name)
        row = CredentialRow(new_id("cred"), registry_id, name, actions, 1, key_id, claims)
        await accounts.insert(tx, row, now_ms())

    async def credentials(self, registry_id: str) -> tuple[str, str]:
        """(username, password), the same until the next rotation. Raises NOT_FOUND, NOT_READY."""
        row = await accounts.of_registry(self._core.db, registry_id)
        if row is None:
            raise RegistryError(ErrorCode.NOT_FOUND)
        return row.username, self._password(row)

    async def show(self, registry_id: str, by: Actor) -> tuple[str, str]:
        """The same for somebody who asks, which the audit log tells first. Raises NOT_FOUND, NOT_READY."""
        login = await self.credentials(registry_id)

        async def body(tx: Transaction) -> None:
            await audit.record(tx, by, AuditAction.CREDENTIALS_READ, registry_id=registry_id, reference=login[0])

        await self._core.db.write(body)
        return login

    async def rotate(self, registry_id: str, grace_seconds: int = 0, by: Actor = SERVER) -> tuple[str, str, int | None]:
        """(username, new password, until when the earlier one lives in milliseconds).

        From its commit on the earlier password and every token drawn from it are dead, or after ``grace_seconds``; one
        from before that is dead at once. Raises NOT_FOUND."""
        row = await self._core.db.write(partial(self._rotated, registry_id, grace_seconds, by))
        return row.username, self._password(row), row.previous.until if row.previous else None

    async def _rotated(self, registry_id: str, grace_seconds: int, by: Actor, tx: Transaction) -> CredentialRow:
        row = await accounts.of_registry(tx, registry_id)
        if row is None:
            raise RegistryError(ErrorCode.NOT_FOUND)
        key_id, claims = await self._claims(tx, row.username)
        self._keys.private(key_id)  # a key that cannot sign leaves the earlier password in force
        until = now_ms() + grace_seconds * 1000
        previous = Previous(row.version, row.key_id, row.claims, until) if grace_seconds else None
        row = replace(row, version=row.version + 1, key_id=key_id, claims=claims, previous=previous)
        await accounts.replace(tx, row, now_ms())
        detail = f"the earlier password lives on for {grace_seconds} s" if grace_seconds else None
        action, reference = AuditAction.CREDENTIALS_ROTATE, row.username
        await audit.record(tx, by, action, registry_id=registry_id, reference=reference, detail=detail)
        return row

    async def _claims(self, tx: Transaction, name: str) -> tuple[str, str]:
        """(the key that is active in this transaction, the claims in the order in which they are signed)."""
        installation, key_id = await accounts.installation_id(tx), await accounts.active_key(tx)
        if key_id is None:
            raise LookupError("no key signs here yet")
        now = int(time.time())
        claims = {
            "iss": installation,
            "aud": f"{installation}/passwords",
            "sub": name,
            "jti": new_secret(),
            "iat": now,
            "nbf": now,
            "exp": now + _LIFETIME_SECONDS,
        }
        return key_id, jws.compact(claims)

    def _password(self, row: CredentialRow) -> str:
        try:
            return jws.sign(self._keys, row.key_id, _HEADER, row.claims)
        except KeyRefused as refused:
            logger.error("credentials cannot be shown: %s", refused)  # noqa: TRY400 - one clear line says it all
            raise RegistryError(
                ErrorCode.NOT_READY, message="the key of this password is missing; rotate the credentials"
            ) from None

    async def authenticate(self, name: str, password: str) -> CredentialRow | None:
        """The live row whose password this is, or None; of the previous password while it lives, as that one's row.

        Comparison takes the same time whatever differs (CVE-2023-20902), and a name that does not exist costs what
        one that does costs."""
        row = await accounts.live_by_username(self._core.db, name) if _NAME.fullmatch(name) else None
        if row is None:
            key_id = await accounts.active_key(self._core.db) or ""
            self._is_password(password, key_id, hashlib.sha256(name.encode()).hexdigest())
            return None
        for version in versions(row):
            if self._is_password(password, version.key_id, version.claims):
                return None if _has_expired(version) else version
        return None

    def _is_password(self, password: str, key_id: str, claims: str) -> bool:
        try:
            expected = self._digest(key_id, claims)
        except KeyRefused as refused:
            logger.error("a robot cannot log in: %s", refused)  # noqa: TRY400 - one clear line says it all
            return False
        return hmac.compare_digest(hashlib.sha256(password.encode()).digest(), expected)

    def _mint_digest(self, key_id: str, claims: str) -> bytes:
        """SHA-256 of the password."""
        return hashlib.sha256(jws.sign(self._keys, key_id, _HEADER, claims).encode()).digest()


def versions(row: CredentialRow) -> list[CredentialRow]:
    """The row as it is, and as it was before its last rotation while that is in force."""
    old = row.previous
    if old is None or old.until <= now_ms():
        return [row]
    return [row, replace(row, version=old.version, key_id=old.key_id, claims=old.claims, previous=None)]


def _has_expired(row: CredentialRow) -> bool:
    return bool(json.loads(row.claims)["exp"] <= time.time())
