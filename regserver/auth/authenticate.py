"""Who asks: the ``Authorization`` header, held against the live catalog with every request."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from regserver.auth import admin
from regserver.auth.api_tokens import ApiTokens
from regserver.auth.keys import Keys
from regserver.auth.robots import PREFIX, Robots, has_ended, versions
from regserver.auth.tokens import Bearer, Binding, Tokens
from regserver.content.core import Core
from regserver.errors import Unauthorized
from regserver.model.access import Account, Caller, Kind
from regserver.storage.catalog import accounts
from regserver.storage.catalog.accounts import CredentialRow
from regserver.storage.catalog.api_tokens import ApiTokenRow

_ANONYMOUS = Account(Kind.ANONYMOUS, "")
_ADMIN = Account(Kind.ADMIN, admin.USERNAME)
_DEVELOPER = Account(Kind.DEVELOPER, "developer")
_ESCAPED_PREFIX = PREFIX.replace("$", "%24")
_JWT_DOTS = 2  # RFC 7519 §3.1


@dataclass(frozen=True, slots=True)
class Identity:
    """An account and what a token drawn from it is bound to: the very row that its password was checked against."""

    account: Account
    binding: Binding


def refusal() -> Unauthorized:
    """The one answer to every kind of bad credentials."""
    return Unauthorized(error="invalid_token")


class Authenticator:
    """Nothing is remembered here: a rotation, a deletion or another administrator's token holds from the next request.

    With ``--dev`` everybody is the developer, and credentials are not even looked at: a client may hold stale ones.
    """

    def __init__(
        self, core: Core, keys: Keys, tokens: Tokens, robots: Robots, admin_token: str, api_tokens: ApiTokens
    ) -> None:
        self._core = core
        self._tokens = tokens
        self._robots = robots
        self._api_tokens = api_tokens
        self._admin_token = admin_token
        self._admin_fingerprint = admin.fingerprint(admin_token)

    async def caller(self, authorization: str | None, address: str) -> Caller:
        """Who a request under /v2 or /v1 comes from; ``address`` is the peer's.

        Basic (RFC 7617), or Bearer (RFC 6750) with a token of the token service or the administrator's own. Raises
        Unauthorized for bad credentials, and for any other scheme."""
        if not self._core.settings.dev and authorization is not None:
            scheme, value = _parts(authorization)
            if scheme == "bearer" and not self._is_admin_token(value):
                return await self._bearer(await self._tokens.verify(value))
        account = (await self.identity(authorization, admin_bearer=True)).account
        return Caller(account, f"{account.subject or 'anonymous'}@{address}", shared=True)

    async def manager(self, authorization: str | None, address: str) -> Caller:
        """The same under /v1, where API tokens are known besides. Raises Unauthorized."""
        if not self._core.settings.dev and authorization is not None:
            scheme, value = _parts(authorization)
            if scheme == "bearer" and (row := await self._api_tokens.authenticate(value)) is not None:
                return _token_caller(row, address)
        return await self.caller(authorization, address)

    def binding(self, caller: Caller) -> Binding | None:
        """What a session of the console remembers of a manager; None for who is none there."""
        match caller.account.kind:
            case Kind.ADMIN if caller.scopes is None:  # no bearer token, which never manages
                return Binding(Kind.ADMIN, self._admin_fingerprint)
            case Kind.API_TOKEN:
                return Binding(Kind.API_TOKEN, caller.account.subject)
            case _:
                return None

    async def bound(self, binding: Binding, address: str) -> Caller:
        """The manager of a session, if nothing has ended the credentials that it was opened with. Raises
        Unauthorized."""
        if binding.kind is Kind.ADMIN and admin.same(binding.credential, self._admin_fingerprint):
            return Caller(_ADMIN, f"{admin.USERNAME}@{address}", shared=True)
        row = await self._api_tokens.live(binding.credential) if binding.kind is Kind.API_TOKEN else None
        if row is None:
            raise refusal()
        return _token_caller(row, address)

    async def identity(self, authorization: str | None, *, admin_bearer: bool = False) -> Identity:
        """Whoever names itself to the token service: Basic or nobody, never a bearer token, which cannot renew itself.

        Raises Unauthorized; bad credentials are never taken for none."""
        if self._core.settings.dev:
            return Identity(_DEVELOPER, Binding(Kind.DEVELOPER))
        if authorization is None:
            return Identity(_ANONYMOUS, Binding(Kind.ANONYMOUS))
        scheme, value = _parts(authorization)
        if scheme == "basic":
            return await self.login(*_basic(value))
        if admin_bearer and scheme == "bearer" and self._is_admin_token(value):
            return self._admin()
        raise refusal()

    async def account(self, username: str, password: str) -> Account:
        """Raises Unauthorized."""
        return (await self.login(username, password)).account

    async def login(self, username: str, password: str) -> Identity:
        """``admin`` and the administrator's token, or a robot and its password; ``%24`` stands for ``$`` where a shell
        ate it. Raises Unauthorized; with ``--dev`` everybody is let in."""
        if self._core.settings.dev:
            return Identity(_DEVELOPER, Binding(Kind.DEVELOPER))
        if username == admin.USERNAME:
            if not self._is_admin_token(password):
                raise refusal()
            return self._admin()
        row = await self._robots.authenticate(canonical(username), password)
        if row is None:
            raise refusal()
        self._robots.use(row)
        return Identity(_robot(row), Binding(Kind.ROBOT, row.id, row.version))

    def _is_admin_token(self, text: str) -> bool:
        return admin.same(text, self._admin_token)

    def _admin(self) -> Identity:
        return Identity(_ADMIN, Binding(Kind.ADMIN, self._admin_fingerprint))

    async def _bearer(self, bearer: Bearer) -> Caller:
        account = await self._alive(bearer)
        scopes = bearer.scopes
        return Caller(account, bearer.session, shared=False, scopes=scopes.repositories, catalog=scopes.catalog)

    async def _alive(self, bearer: Bearer) -> Account:
        """The account that the token was drawn from, if nothing has ended it since. Raises Unauthorized."""
        binding = bearer.binding
        match binding.kind:
            case Kind.ANONYMOUS:
                return _ANONYMOUS
            case Kind.ADMIN if admin.same(binding.credential, self._admin_fingerprint):
                return _ADMIN
            case Kind.ROBOT:
                row = await accounts.live_by_id(self._core.db, binding.credential)
                if row is not None and _is_in_force(row, binding) and row.username == bearer.subject:
                    self._robots.use(row)
                    return _robot(row)
            case _:
                pass
        raise refusal()  # the developer's too: the server does not run with --dev any more


def claim(authorization: str) -> tuple[str, str] | None:
    """(name, secret) of a header that can be guessed at: Basic, or a bearer token that bears no signature, without a
    name. None for everything else, what is malformed included."""
    try:
        scheme, value = _parts(authorization)
        if scheme == "basic":
            username, password = _basic(value)
            return canonical(username), password
    except Unauthorized:
        return None
    return ("", value) if scheme == "bearer" and value.count(".") != _JWT_DOTS else None


def canonical(username: str) -> str:
    """With ``$`` where a shell wants ``%24``."""
    if username.startswith(_ESCAPED_PREFIX):
        return PREFIX + username.removeprefix(_ESCAPED_PREFIX)
    return username


def _token_caller(row: ApiTokenRow, address: str) -> Caller:
    return Caller(Account(Kind.API_TOKEN, row.id), f"{row.id}@{address}", shared=True, permit=row.permit)


def _robot(row: CredentialRow) -> Account:
    return Account(Kind.ROBOT, row.username, row.registry_id, row.actions, row.images)


def _is_in_force(row: CredentialRow, binding: Binding) -> bool:
    return not has_ended(row) and binding.version in [version.version for version in versions(row)]


def _parts(authorization: str) -> tuple[str, str]:
    """(scheme in lower case, what follows). Raises Unauthorized unless it is ASCII, as RFC 9110 §11.4 has it."""
    if not authorization.isascii():
        raise refusal()
    scheme, _, value = authorization.partition(" ")
    return scheme.lower(), value.strip(" ")


def _basic(value: str) -> tuple[str, str]:
    """(user, password) of RFC 7617 in UTF-8. Raises Unauthorized."""
    try:
        username, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise refusal() from None
    return username, password  # without a colon the password is empty, and nobody's is
