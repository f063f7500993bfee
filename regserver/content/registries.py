"""The life of a registry: made, changed, and put out of reach. ``content.purge`` takes away what a deleted one held."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from regserver.content.core import Core
from regserver.content.retention import changed_policy
from regserver.errors import ErrorCode, RegistryError
from regserver.model.audit import SERVER, Actor, AuditAction
from regserver.model.events import EventType
from regserver.model.ids import new_id
from regserver.model.names import RESERVED_REGISTRIES, is_registry_name
from regserver.model.policy import Document, Policy
from regserver.model.times import now_ms
from regserver.storage.catalog import accounts, audit, clock, events, policies, registries
from regserver.storage.catalog.registries import RegistryFigures, RegistryFilter, RegistryRow, RegistrySort, Status
from regserver.storage.sql.port import Reader, Transaction

T = TypeVar("T")
DEVELOPER = Actor("developer")
MakeRobot = Callable[[Transaction, str, str], Awaitable[object]]  # (transaction, registry id, registry name)


class Unchanged(Enum):
    """Says of a field that the request does not mention it; None would be a value."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update asks for. ``quota_bytes`` None sets the server's default; ``policy`` changes what it names, and
    None takes it all away."""

    public: bool | Unchanged = UNCHANGED
    quota_bytes: int | Unchanged | None = UNCHANGED
    policy: Document | Unchanged | None = UNCHANGED


class Registries:
    """``make_robot`` writes the registry's first credentials into the transaction that makes the registry.

    ``wake_purge`` only saves waiting: the purge finds a deleted registry by its status.
    """

    def __init__(self, core: Core, make_robot: MakeRobot, wake_purge: Callable[[], None]) -> None:
        self._core = core
        self._make_robot = make_robot
        self._wake_purge = wake_purge

    async def create(
        self, name: str, *, public: bool = False, quota_bytes: int | None = None, by: Actor = SERVER
    ) -> RegistryRow:
        """Makes a registry and its robot. It is active when this returns; the row is the one that was inserted.

        The caller has checked the name. Raises RegistryError ALREADY_EXISTS.
        """
        registry_id = new_id("reg")

        async def body(tx: Transaction) -> RegistryRow:
            row = await registries.insert(
                tx, registry_id, name, status=Status.CREATING, public=public, quota_bytes=quota_bytes, now=now_ms()
            )
            if row is None:
                message = f"a registry {name} exists already"
                raise RegistryError(ErrorCode.ALREADY_EXISTS, {"name": name}, message=message)
            # One transaction: a registry without its robot is never seen, and there is nothing to recover at start.
            await self._make_robot(tx, registry_id, name)
            await registries.activate(tx, registry_id)
            await audit.record(tx, by, AuditAction.REGISTRY_CREATE, registry_id=registry_id, detail=_settings(row))
            return row

        return await self._core.db.write(body)

    async def ensure(self, name: str) -> None:
        """Makes the registry unless it is there: the first push under ``--dev``. Raises RegistryError NAME_INVALID."""
        if name in RESERVED_REGISTRIES or not is_registry_name(name):
            raise RegistryError(ErrorCode.NAME_INVALID, {"name": name, "reason": "reserved"})
        if await registries.by_name(self._core.db, name) is not None:
            return
        try:
            await self.create(name, by=DEVELOPER)
        except RegistryError as error:
            if error.code is not ErrorCode.ALREADY_EXISTS:  # another first push was faster
                raise

    async def get(self, registry_id: str) -> RegistryRow:
        """Raises RegistryError NOT_FOUND."""
        return _found(await registries.by_id(self._core.db, registry_id))

    async def figures(self, registry_id: str) -> RegistryFigures:
        """Raises RegistryError NOT_FOUND."""
        return _found(await registries.figures(self._core.db, registry_id))

    async def page(
        self, chosen: RegistryFilter, sort: RegistrySort, limit: int, offset: int
    ) -> tuple[list[RegistryFigures], int]:
        async def body(reader: Reader) -> tuple[list[RegistryFigures], int]:
            return await registries.page(reader, chosen, sort, limit, offset)

        return await self._core.db.read(body)

    async def update(
        self, registry_id: str, changes: Changes, expected: str | None = None, *, by: Actor = SERVER
    ) -> RegistryRow:
        """Without a difference nothing is written, ``updated_at`` included.

        ``expected`` is If-Match's value: the ``updated_at`` that was seen, or ``*``.
        Raises RegistryError NOT_FOUND, PRECONDITION_FAILED, VALIDATION_FAILED for a policy that cannot stand.
        """

        async def body(tx: Transaction) -> RegistryRow:
            row = _seen(await registries.by_id(tx, registry_id), expected)
            public = row.public if changes.public is UNCHANGED else changes.public
            quota = row.quota_bytes if changes.quota_bytes is UNCHANGED else changes.quota_bytes
            policy = await self._set_policy(tx, registry_id, changes)
            if policy is None and (public, quota) == (row.public, row.quota_bytes):
                return row
            now = max(now_ms(), row.updated_at + 1)  # never the same twice, whatever the clock does
            if quota != row.quota_bytes:
                more = {"reason": "changed", "used_bytes": row.used_bytes, "limit_bytes": quota}
                await events.of_registry(tx, EventType.QUOTA, registry_id, by, more=more)
            row = _found(await registries.update(tx, registry_id, public=public, quota_bytes=quota, now=now))
            detail = _settings(row) + (f", policy: {json.dumps(policy.document)}" if policy else "")
            await audit.record(tx, by, AuditAction.REGISTRY_UPDATE, registry_id=registry_id, detail=detail)
            return row

        return await self._core.db.write(body)

    async def policy(self, registry_id: str) -> Policy:
        """What its tags are subject to; where nothing was set, a policy that does nothing."""
        return await policies.find(self._core.db, registry_id)

    async def _set_policy(self, tx: Transaction, registry_id: str, changes: Changes) -> Policy | None:
        """The policy from now on; None where that makes no difference."""
        if changes.policy is UNCHANGED:
            return None
        before = await policies.find(tx, registry_id)
        after = changed_policy(before, changes.policy)
        if after == before:
            return None
        await policies.put(tx, registry_id, after, await clock.epoch(tx))
        return after

    async def delete(self, registry_id: str, *, force: bool, expected: str | None = None, by: Actor = SERVER) -> None:
        """Puts it out of reach: from its commit on nobody finds it, and its name is free.

        Raises RegistryError NOT_FOUND, PRECONDITION_FAILED, and NOT_EMPTY while a tag is left and not ``force``.
        """

        async def body(tx: Transaction) -> None:
            _seen(await registries.by_id(tx, registry_id), expected)
            if not force and await registries.has_tags(tx, registry_id):
                raise RegistryError(ErrorCode.NOT_EMPTY)
            await registries.mark_deleting(tx, registry_id, now_ms())
            # With the mark, so that no password outlives its registry, and the name of its robot is free at once.
            await accounts.delete_of_registry(tx, registry_id)
            await audit.record(tx, by, AuditAction.REGISTRY_DELETE, registry_id=registry_id)

        await self._core.db.write(body)
        self._wake_purge()


def _settings(row: RegistryRow) -> str:
    """What somebody has decided, as the audit log tells it."""
    quota = "the server's" if row.quota_bytes is None else f"{row.quota_bytes} bytes"
    return f"public: {'yes' if row.public else 'no'}, quota: {quota}"


def _found(thing: T | None) -> T:
    if thing is None:
        raise RegistryError(ErrorCode.NOT_FOUND)
    return thing


def _seen(row: RegistryRow | None, expected: str | None) -> RegistryRow:
    found = _found(row)
    if expected not in (None, "*", str(found.updated_at)):
        raise RegistryError(ErrorCode.PRECONDITION_FAILED)
    return found
