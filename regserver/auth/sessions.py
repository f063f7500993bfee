"""Sessions of the console: a browser's cookie stands for the credentials that were typed in once.

A session holds no rights. It names what the sign-in proved, and with every request that is looked at again: a deleted
API token, or another administrator's token at the next start, ends its sessions at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

from regserver.auth.authenticate import Authenticator, refusal
from regserver.auth.tokens import Binding
from regserver.content.core import Core
from regserver.model.access import Caller, Kind
from regserver.model.times import now_ms
from regserver.storage.catalog import sessions
from regserver.storage.catalog.sessions import SessionRow
from regserver.storage.sql.port import Transaction

_SECRET_BYTES = 32
_SECRET_LENGTH = 43  # of them in base64 without padding


class Sessions:
    """``clock``: milliseconds since 1970. It decides when a session ends, which is a permission and no deletion."""

    def __init__(self, core: Core, authenticator: Authenticator, clock: Callable[[], int] = now_ms) -> None:
        self._core = core
        self._authenticator = authenticator
        self._clock = clock

    async def open(self, caller: Caller) -> str:
        """A new session of somebody whose credentials were just checked; its secret, for the cookie.

        Raises Unauthorized for callers that the console does not know: robots, bearer tokens."""
        binding = self._authenticator.binding(caller)
        if binding is None:
            raise refusal()
        secret, now = new_secret(), self._clock()
        ends = now + self._core.settings.console_session_seconds * 1000

        async def body(tx: Transaction) -> None:
            await sessions.expire(tx, now)
            await sessions.insert(tx, _digest(secret), SessionRow(binding.kind.value, binding.credential, ends))

        await self._core.db.write(body)
        return secret

    async def caller(self, secret: str | None, address: str) -> Caller:
        """Who a request of the console comes from; with ``--dev`` everybody is the developer. Raises Unauthorized."""
        if self._core.settings.dev:
            return await self._authenticator.manager(None, address)
        row = await sessions.by_id(self._core.db, _digest(secret)) if secret is not None else None
        if row is None or row.expires_at <= self._clock():
            raise refusal()
        return await self._authenticator.bound(Binding(Kind(row.kind), row.credential), address)

    async def close(self, secret: str) -> None:
        """Once this returns the cookie opens nothing."""

        async def body(tx: Transaction) -> None:
            await sessions.delete(tx, _digest(secret))

        await self._core.db.write(body)


def new_secret() -> str:
    """256 random bits: nobody guesses what it was from its digest, so that needs neither salt nor a slow hash."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def is_secret(text: str) -> bool:
    return len(text) == _SECRET_LENGTH and text.isascii()


def form_token(secret: str) -> str:
    """What each form of that cookie's pages carries. A page of another site can neither read nor compute it."""
    return hmac.new(secret.encode(), b"regserver console form", hashlib.sha256).hexdigest()


def is_form_token(secret: str, token: str) -> bool:
    """In a time that does not depend on where they differ."""
    return hmac.compare_digest(form_token(secret).encode(), token.encode(errors="surrogatepass"))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
