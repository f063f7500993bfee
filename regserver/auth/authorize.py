"""May they: the one place that decides, from the live registry row, the live account and the token's scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import assert_never

from regserver.auth import policy
from regserver.auth.policy import Facts, Means, Verdict
from regserver.auth.scopes import Scopes
from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.model.access import Access, Account, Action, Caller, Kind, Permit, Target
from regserver.model.globs import Globs
from regserver.model.names import RepositoryName
from regserver.storage.catalog import registries

_NOWHERE = Facts("", public=False)  # no registry has this id, so nothing is found in it

CreateRegistry = Callable[[str], Awaitable[object]]


class Authorizer:
    """``create_registry`` makes one that a push in ``--dev`` names and nobody has made; twice is no error."""

    def __init__(self, core: Core, create_registry: CreateRegistry | None = None) -> None:
        self._core = core
        self._create_registry = create_registry

    async def repository(self, caller: Caller, access: Access, name: RepositoryName) -> Target:
        """Where the caller may go on with what the route demands.

        Without the right, a registry that is there and one that is not are refused alike, with 401 and the scope that a
        token would need: clients widen theirs only on 401. Raises NAME_UNKNOWN where everything is allowed but nothing
        is there. The registry is pinned by id from here on (CVE-2022-31667)."""
        facts = await self._facts(name.registry)
        rights = policy.grants(caller.account, facts, name.image) & _scopes(caller, name)
        if not access.actions or not access.actions <= rights:
            raise Unauthorized(scope=policy.required_scope(access, name), error=_error(caller))
        if facts is None:
            facts = await self._created(access, name)
        return Target(facts.registry_id, name, rights)

    async def source(self, caller: Caller, name: RepositoryName) -> Target | None:
        """A mount's source, if the account may pull there. Its token's scopes are not asked: clients hold one for the
        target only. None is no refusal: an upload begins instead."""
        facts = await self._facts(name.registry)
        rights = policy.grants(caller.account, facts, name.image)
        return Target(facts.registry_id, name, rights) if facts is not None and Action.PULL in rights else None

    async def sources(self, caller: Caller, target: Target) -> Globs | None:
        """Which images of the target's registry may be the source of a mount that names none; None is all of them."""
        facts = await self._facts(target.name.registry)
        is_public = facts is not None and facts.public and facts.registry_id == target.registry_id
        return None if is_public else caller.account.images

    def general(self, caller: Caller, access: Access, registry_id: str | None = None) -> None:
        """Routes that name no repository; ``registry_id`` is what stands in the path, unread.

        Raises Unauthorized, DENIED where only other credentials would do, and NOT_FOUND where even that would tell
        something."""
        verdict = policy.GENERAL[access][_means(caller, registry_id)]
        if verdict is Verdict.ALLOW and access is Access.CATALOG and not caller.catalog:
            verdict = Verdict.IDENTIFY
        match verdict:
            case Verdict.ALLOW:
                return
            case Verdict.IDENTIFY:
                raise Unauthorized(scope=policy.required_scope(access), error=_error(caller))
            case Verdict.DENY:
                raise RegistryError(ErrorCode.DENIED)
            case Verdict.HIDE:
                raise RegistryError(ErrorCode.NOT_FOUND)
            case unreachable:
                assert_never(unreachable)

    async def grant(self, account: Account, name: RepositoryName, requested: frozenset[Action]) -> frozenset[Action]:
        """What of a requested scope a token may hold now; whoever uses it is asked again."""
        return requested & policy.grants(account, await self._facts(name.registry), name.image)

    async def grant_all(self, account: Account, requested: Scopes) -> Scopes:
        """The same for all that is asked for. What is refused is left out, and nothing left is no error."""
        granted = {name: await self.grant(account, name, wanted) for name, wanted in requested.repositories.items()}
        return Scopes({name: actions for name, actions in granted.items() if actions}, requested.catalog)

    async def _facts(self, registry: str) -> Facts | None:
        row = await registries.by_name(self._core.db, registry)
        return Facts(row.id, row.public) if row is not None else None

    async def _created(self, access: Access, name: RepositoryName) -> Facts:
        if self._core.settings.dev and access is Access.PUSH and self._create_registry is not None:
            await self._create_registry(name.registry)
            facts = await self._facts(name.registry)
            if facts is not None:
                return facts
        if access is Access.PULL:
            return _NOWHERE  # whoever may know is told what is missing: a blob, a manifest; referrers are just none
        raise RegistryError(ErrorCode.NAME_UNKNOWN, {"name": str(name)})


def _scopes(caller: Caller, name: RepositoryName) -> frozenset[Action]:
    return policy.EVERYTHING if caller.scopes is None else caller.scopes.get(name, policy.NOTHING)


def _means(caller: Caller, registry_id: str | None = None) -> Means:
    if caller.permit is not None:
        return _permitted(caller.permit, registry_id)
    if caller.scopes is not None:
        return Means.TOKEN
    if caller.account.all_powerful:
        return Means.OPERATOR
    return Means.NONE if caller.account.kind is Kind.ANONYMOUS else Means.ROBOT


def _permitted(permit: Permit, registry_id: str | None) -> Means:
    """The strongest of its scopes here."""
    if permit.admin:
        return Means.API_ADMIN
    if registry_id is not None and registry_id in permit.registries:
        return Means.API_OWN
    if permit.read:
        return Means.API_READ
    return Means.API_NOWHERE if registry_id is None else Means.API_OTHER


def _error(caller: Caller) -> str | None:
    """RFC 6750 §3.1; none where no credentials were sent."""
    return None if _means(caller) is Means.NONE else "insufficient_scope"
