"""Robots: the accounts that push and pull. ``robot$<registry>`` comes with the registry and may do everything in it;
``robot$<registry>+<name>`` is another one with rights of its own. A password is a signed token of its own kind.

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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from regserver.auth import jws
from regserver.auth.keys import KeyRefused, Keys
from regserver.auth.uses import Uses
from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action
from regserver.model.audit import SERVER, Actor, AuditAction
from regserver.model.globs import Globs
from regserver.model.ids import new_id, new_secret
from regserver.model.times import now_ms
from regserver.storage import evidence
from regserver.storage.catalog import accounts, audit, registries
from regserver.storage.catalog.accounts import CredentialRow, Previous
from regserver.storage.catalog.registries import Status
from regserver.storage.sql.port import Transaction

logger = logging.getLogger(__name__)

PREFIX = "robot$"
_NAME = re.compile(r"robot\$[a-z0-9._+-]{1,255}", re.ASCII)
_HEADER = {"alg": "RS256", "typ": "JWT"}  # exactly this, as the management API shows it
_LIFETIME_SECONDS = 100 * 365 * 86400
_REMEMBERED = 4096


def username(registry_name: str, name: str | None = None) -> str:
    """A registry's name holds no ``+``, so no two robots share one."""
    return PREFIX + registry_name + (f"+{name}" if name else "")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a robot may do. ``images`` None is every image; ``expires_at``: milliseconds since 1970, None is never."""

    actions: frozenset[Action] = frozenset(Action)
    images: Globs | None = None
    expires_at: int | None = None


class Robots:
    def __init__(self, keys: Keys, core: Core) -> None:
        self._keys = keys
        self._core = core
        self._uses = Uses(core.db, accounts.used)
        # A digest depends on nothing but its arguments, so remembering it cannot contradict the catalog.
        self._digest = lru_cache(maxsize=_REMEMBERED)(self._mint_digest)

    async def create(self, tx: Transaction, registry_id: str, registry_name: str) -> None:
        """The registry's own robot, in the transaction that makes the registry. Raises IntegrityFailed for a second."""
        await self._insert(tx, registry_id, registry_name, None, Rights())

    async def add(self, registry_id: str, name: str, rights: Rights, by: Actor) -> tuple[CredentialRow, str]:
        """(another robot of the registry, its password). The caller has checked the name.

        Raises RegistryError NOT_FOUND, NOT_READY, ALREADY_EXISTS."""

        async def body(tx: Transaction) -> tuple[CredentialRow, str]:
            registry = await registries.by_id(tx, registry_id)
            if registry is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            if registry.status is not Status.ACTIVE:
                raise RegistryError(ErrorCode.NOT_READY)
            if await accounts.live_by_username(tx, username(registry.name, name)) is not None:
                raise RegistryError(ErrorCode.ALREADY_EXISTS, {"name": name}, message=f"a robot {name} exists already")
            row = await self._insert(tx, registry_id, registry.name, name, rights)
            await _record(tx, by, AuditAction.ROBOT_CREATE, row)
            return row, self._password(row)  # here: a robot whose password cannot be signed is not made

        return await self._core.db.write(body)

    async def _insert(
        self, tx: Transaction, registry_id: str, registry_name: str, name: str | None, rights: Rights
    ) -> CredentialRow:
        login, now = username(registry_name, name), now_ms()
        key_id, claims = await self._claims(tx, login)
        row = CredentialRow(
            new_id("rob"),
            registry_id,
            login,
            rights.actions,
            1,
            key_id,
            claims,
            name=name,
            images=rights.images,
            expires_at=rights.expires_at,
            created_at=now,
            updated_at=now,
        )
        await accounts.insert(tx, row)
        return row

    async def get(self, registry_id: str, robot_id: str) -> CredentialRow:
        """Raises RegistryError NOT_FOUND, also for another registry's."""
        return _found(await accounts.by_id(self._core.db, registry_id, robot_id))

    async def page(self, registry_id: str, limit: int, offset: int) -> tuple[list[CredentialRow], int]:
        """The registry's own first, then the oldest."""
        return await self._core.db.read(partial(accounts.page, registry_id=registry_id, limit=limit, offset=offset))

    async def change(
        self, registry_id: str, robot_id: str, changes: Mapping[str, Any], expected: str | None, by: Actor
    ) -> CredentialRow:
        """``changes``: fields of Rights. They hold for open sessions and bearer tokens too, from the commit on.

        ``expected`` is If-Match's value: the ``updated_at`` that was seen, or ``*``. Without a difference nothing is
        written. Raises RegistryError NOT_FOUND, OWN_ROBOT, PRECONDITION_FAILED."""

        async def body(tx: Transaction) -> CredentialRow:
            row = _added(await accounts.by_id(tx, registry_id, robot_id), expected)
            changed = replace(row, **changes)
            if changed == row:
                return row
            changed = replace(changed, updated_at=max(now_ms(), row.updated_at + 1))
            await accounts.update(tx, changed)
            await _record(tx, by, AuditAction.ROBOT_UPDATE, row)
            return changed

        return await self._core.db.write(body)

    async def delete(self, registry_id: str, robot_id: str, expected: str | None, by: Actor) -> None:
        """Once this returns its password and every token drawn from it are dead.

        Raises RegistryError NOT_FOUND, OWN_ROBOT, PRECONDITION_FAILED."""

        async def body(tx: Transaction) -> None:
            row = _added(await accounts.by_id(tx, registry_id, robot_id), expected)
            await accounts.delete(tx, row.id)
            await _record(tx, by, AuditAction.ROBOT_DELETE, row)

        await self._core.db.write(body)

    async def show_one(self, registry_id: str, robot_id: str, by: Actor) -> str:
        """Its password, for somebody who asks, which the audit log tells first. Raises NOT_FOUND, NOT_READY."""
        row = await self.get(registry_id, robot_id)
        password = self._password(row)

        async def body(tx: Transaction) -> None:
            await _record(tx, by, AuditAction.CREDENTIALS_READ, row)

        await self._core.db.write(body)
        return password

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
        """(username, new password, until when the earlier one lives in milliseconds) of the registry's own robot.

        From its commit on the earlier password and every token drawn from it are dead, or after ``grace_seconds``; one
        from before that is dead at once. Raises NOT_FOUND."""

        async def body(tx: Transaction) -> CredentialRow:
            return await self._rotated(tx, _found(await accounts.of_registry(tx, registry_id)), grace_seconds, by)

        row = await self._core.db.write(body)
        return row.username, self._password(row), row.previous.until if row.previous else None

    async def rotate_one(
        self, registry_id: str, robot_id: str, grace_seconds: int, by: Actor
    ) -> tuple[CredentialRow, str]:
        """The same for any robot: (its row, the new password). Raises NOT_FOUND."""

        async def body(tx: Transaction) -> CredentialRow:
            row = _found(await accounts.by_id(tx, registry_id, robot_id))
            return await self._rotated(tx, row, grace_seconds, by)

        row = await self._core.db.write(body)
        return row, self._password(row)

    async def _rotated(self, tx: Transaction, row: CredentialRow, grace_seconds: int, by: Actor) -> CredentialRow:
        key_id, claims = await self._claims(tx, row.username)
        self._keys.private(key_id)  # a key that cannot sign leaves the earlier password in force
        until = now_ms() + grace_seconds * 1000
        previous = Previous(row.version, row.key_id, row.claims, until) if grace_seconds else None
        row = replace(row, version=row.version + 1, key_id=key_id, claims=claims, previous=previous)
        await accounts.replace(tx, row, now_ms())
        detail = f"the earlier password lives on for {grace_seconds} s" if grace_seconds else None
        action = AuditAction.CREDENTIALS_ROTATE if row.name is None else AuditAction.ROBOT_ROTATE
        await _record(tx, by, action, row, detail)
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
        Whoever is let in notes it with ``use``.

        Comparison takes the same time whatever differs (CVE-2023-20902), and a name that does not exist costs what
        one that does costs."""
        row = await accounts.live_by_username(self._core.db, name) if _NAME.fullmatch(name) else None
        if row is None:
            key_id = await accounts.active_key(self._core.db) or ""
            self._is_password(password, key_id, hashlib.sha256(name.encode()).hexdigest())
            return None
        for version in versions(row):
            if self._is_password(password, version.key_id, version.claims):
                return None if has_ended(row) or _has_expired(version) else version
        return None

    def use(self, row: CredentialRow) -> None:
        evidence.note(partial(self._uses.note, row.id))

    async def flush(self, *, final: bool = False) -> None:
        """Writes the last uses. Raises DatabaseFailed."""
        await self._uses.flush(final=final)

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
    evidence.until(old.until / 1000)
    return [row, replace(row, version=old.version, key_id=old.key_id, claims=old.claims, previous=None)]


def has_ended(row: CredentialRow) -> bool:
    """Whether the robot was given up to now. It is a permission that ends, so the wall clock decides."""
    if row.expires_at is None:
        return False
    evidence.until(row.expires_at / 1000)
    return row.expires_at <= now_ms()


def _has_expired(row: CredentialRow) -> bool:
    return bool(json.loads(row.claims)["exp"] <= time.time())


def _found(row: CredentialRow | None) -> CredentialRow:
    if row is None:
        raise RegistryError(ErrorCode.NOT_FOUND)
    return row


def _added(row: CredentialRow | None, expected: str | None) -> CredentialRow:
    """One that is not the registry's own, in the state that was seen."""
    found = _found(row)
    if found.name is None:
        raise RegistryError(ErrorCode.OWN_ROBOT)
    if expected not in (None, "*", str(found.updated_at)):
        raise RegistryError(ErrorCode.PRECONDITION_FAILED)
    return found


async def _record(
    tx: Transaction, by: Actor, action: AuditAction, row: CredentialRow, detail: str | None = None
) -> None:
    await audit.record(tx, by, action, registry_id=row.registry_id, reference=row.username, detail=detail)
