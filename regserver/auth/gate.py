"""The way in: requests are counted, credentials before they are compared, and what failed is written into the audit
log."""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from regserver.auth.authenticate import Authenticator, Identity, canonical, claim
from regserver.auth.limits import MOST, Buckets, Clock, Logins, Requests, place
from regserver.auth.robots import PREFIX
from regserver.content.core import Core
from regserver.errors import RegistryError, Unauthorized
from regserver.model.access import Caller
from regserver.model.audit import Actor, AuditAction, AuditResult
from regserver.storage import evidence
from regserver.storage.catalog import audit, registries
from regserver.storage.sql.port import DatabaseFailed, Transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Lines about failed logins, from one address and from all: at once, and a second. Together about 1,500 a day at most.
PLACE_LINES, PLACE_RATE = 10, 1 / 300
ALL_LINES, ALL_RATE = 100, 1 / 60
_NAMES = re.compile(r"admin|robot\$[a-z0-9._+-]{1,255}", re.ASCII)
_UNKNOWN = "unknown"


class Gate:
    """An Authenticator behind limits. ``origin`` of each call: its address, and the request's id for the log."""

    def __init__(self, core: Core, authenticator: Authenticator, clock: Clock = time.monotonic) -> None:
        self._authenticator = authenticator
        self._is_open = core.settings.dev  # credentials are not even looked at, and nothing is limited
        self._requests = Requests(0 if self._is_open else core.settings.requests_per_second, clock)
        self._logins = Logins(core.settings.failed_logins_per_minute, clock)
        self._failures = Failures(core, clock)

    def admit(self, origin: Actor) -> None:
        """One more request from there, before anybody has looked at it. Raises RegistryError TOO_MANY_REQUESTS."""
        self._requests.admit_address(origin.address)

    def admit_caller(self, caller: Caller) -> None:
        """One more request of these credentials, which have passed. Raises RegistryError TOO_MANY_REQUESTS."""
        self._requests.admit_credential(caller.account.subject)

    async def caller(self, authorization: str | None, origin: Actor, *, manages: bool) -> Caller:
        """Who a request comes from; ``manages``: under /v1. Raises Unauthorized, RegistryError TOO_MANY_REQUESTS."""
        ask = self._authenticator.manager if manages else self._authenticator.caller
        return await self._counted(authorization, origin, lambda: ask(authorization, origin.address))

    async def identity(self, authorization: str | None, origin: Actor) -> Identity:
        """Who asks for a token, which is a request of theirs too. Raises Unauthorized, RegistryError
        TOO_MANY_REQUESTS."""
        return self._admitted(
            await self._counted(authorization, origin, lambda: self._authenticator.identity(authorization))
        )

    async def login(self, username: str, password: str, origin: Actor) -> Identity:
        """The same with a name and a password. Raises Unauthorized, RegistryError TOO_MANY_REQUESTS."""
        claimed = canonical(username), password
        return self._admitted(
            await self._judged(claimed, origin, lambda: self._authenticator.login(username, password))
        )

    def _admitted(self, identity: Identity) -> Identity:
        self._requests.admit_credential(identity.account.subject)
        return identity

    async def _counted(self, authorization: str | None, origin: Actor, ask: Callable[[], Awaitable[T]]) -> T:
        claimed = claim(authorization) if authorization is not None else None
        return await ask() if claimed is None else await self._judged(claimed, origin, ask)

    async def _judged(self, claimed: tuple[str, str], origin: Actor, ask: Callable[[], Awaitable[T]]) -> T:
        if self._is_open:
            return await ask()
        evidence.once()  # who can be guessed at is judged each time
        name, secret = claimed
        try:
            attempt = self._logins.enter(origin.address, name, secret)
        except RegistryError:
            self._failures.count(origin.address)
            raise
        try:
            found = await ask()
        except Unauthorized:
            self._logins.failed(attempt)
            await self._failures.write(name, origin)
            raise
        finally:
            self._logins.left(attempt)
        self._logins.passed(attempt)
        return found


class Failures:
    """Failed logins in the audit log: so many lines that they are seen, so few that nobody fills the disk with them.

    A line tells how many came from its address since the last one and have none. A name is written only if it has the
    form of an account's: people type passwords where the name belongs.
    """

    def __init__(self, core: Core, clock: Clock = time.monotonic) -> None:
        self._core = core
        self._places = Buckets(PLACE_LINES, PLACE_RATE, clock)
        self._all = Buckets(ALL_LINES, ALL_RATE, clock)
        self._unwritten: OrderedDict[str, int] = OrderedDict()

    def count(self, address: str) -> None:
        """One that gets no line."""
        where = place(address)
        self._unwritten[where] = self._unwritten.get(where, 0) + 1
        self._unwritten.move_to_end(where)
        if len(self._unwritten) > MOST:
            self._unwritten.popitem(last=False)

    async def write(self, name: str, origin: Actor) -> None:
        """A transaction of its own, for there is none that it could be part of. The refusal does not hang on it."""
        if self._places.take(place(origin.address)) or self._all.take(""):
            return self.count(origin.address)
        unwritten = self._unwritten.pop(place(origin.address), 0)
        subject = name if _NAMES.fullmatch(name) else _UNKNOWN
        detail = f"and {unwritten} more since the last line" if unwritten else None

        async def body(tx: Transaction) -> None:
            row = await registries.by_name(tx, subject.removeprefix(PREFIX).partition("+")[0])
            await audit.record(
                tx,
                Actor(subject, origin.address, origin.request_id),
                AuditAction.LOGIN_FAILED,
                registry_id=row.id if row and subject.startswith(PREFIX) else None,
                detail=detail,
                result=AuditResult.DENIED,
            )

        try:
            await self._core.db.write(body)
        except DatabaseFailed as failed:
            logger.warning("a failed login has no line in the audit log: %s", failed)
        return None
