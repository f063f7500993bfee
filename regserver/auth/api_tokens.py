"""Tokens of the management API: ``rsv_…``, shown once, kept as SHA-256 only.

A token of 190 random bits needs neither salt nor a slow hash: nobody guesses what it was from its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from regserver.auth import admin
from regserver.auth.uses import Uses
from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Permit
from regserver.model.audit import SERVER, Actor, AuditAction
from regserver.model.ids import new_id
from regserver.model.times import now_ms
from regserver.storage.catalog import api_tokens, audit, registries
from regserver.storage.catalog.api_tokens import ApiTokenRow
from regserver.storage.sql.port import Transaction


class UnknownRegistries(Exception):
    """Scopes name registries that are not there: ``scopes`` says which."""

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__(", ".join(scopes))
        self.scopes = scopes


class ApiTokens:
    """``clock``: milliseconds since 1970. It decides when a token ends, which is a permission and no deletion."""

    def __init__(self, core: Core, clock: Callable[[], int] = now_ms) -> None:
        self._core = core
        self._clock = clock
        self._uses = Uses(core.db, api_tokens.used, clock)

    async def create(
        self, name: str, permit: Permit, expires_at: int | None, by: Actor = SERVER
    ) -> tuple[ApiTokenRow, str]:
        """(row, the token, which cannot be shown again). Raises UnknownRegistries."""
        token = admin.new_token()
        row = ApiTokenRow(new_id("tok"), name, permit, expires_at, self._clock())

        async def body(tx: Transaction) -> None:
            known = {identity for identity in permit.registries if await registries.by_id(tx, identity) is not None}
            if known != permit.registries:
                raise UnknownRegistries(Permit(registries=permit.registries - known).scopes)
            await api_tokens.insert(tx, row, _digest(token))
            detail = f"{name}: {', '.join(permit.scopes)}"
            await audit.record(tx, by, AuditAction.TOKEN_CREATE, reference=row.id, detail=detail)

        await self._core.db.write(body)
        return row, token

    async def get(self, token_id: str) -> ApiTokenRow:
        """Raises RegistryError NOT_FOUND."""
        row = await api_tokens.by_id(self._core.db, token_id)
        if row is None:
            raise RegistryError(ErrorCode.NOT_FOUND)
        return row

    async def page(self, limit: int, offset: int) -> tuple[list[ApiTokenRow], int]:
        return await self._core.db.read(partial(api_tokens.page, limit=limit, offset=offset))

    async def delete(self, token_id: str, by: Actor = SERVER, expected: str | None = None) -> None:
        """Once this returns the token is dead. ``expected``: If-Match's value.

        Raises RegistryError NOT_FOUND, PRECONDITION_FAILED."""

        async def body(tx: Transaction) -> None:
            row = await api_tokens.by_id(tx, token_id)
            if row is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            if expected not in (None, "*", str(row.updated_at)):
                raise RegistryError(ErrorCode.PRECONDITION_FAILED)
            await api_tokens.delete(tx, token_id)
            await audit.record(tx, by, AuditAction.TOKEN_DELETE, reference=token_id)

        await self._core.db.write(body)

    async def authenticate(self, token: str) -> ApiTokenRow | None:
        """The live row of the token, read anew each time; None where there is none or it has expired."""
        if not admin.is_token(token):
            return None
        return self._used(await api_tokens.by_hash(self._core.db, _digest(token)))

    async def live(self, token_id: str) -> ApiTokenRow | None:
        """The same by its id, for who has shown the token before."""
        return self._used(await api_tokens.by_id(self._core.db, token_id))

    def _used(self, row: ApiTokenRow | None) -> ApiTokenRow | None:
        if row is None or (row.expires_at is not None and row.expires_at <= self._clock()):
            return None
        self._uses.note(row.id)
        return row

    async def flush(self, *, final: bool = False) -> None:
        """Writes the last uses. Raises DatabaseFailed."""
        await self._uses.flush(final=final)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
