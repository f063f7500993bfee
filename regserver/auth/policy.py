"""Who may do what, as tables. Pure: no row is read here and nothing is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from regserver.auth import scopes
from regserver.model.access import Access, Account, Action, Kind
from regserver.model.names import RepositoryName

EVERYTHING = frozenset(Action)
NOTHING: frozenset[Action] = frozenset()


class Standing(Enum):
    """How an account stands to a registry."""

    OPERATOR = "operator"  # the administrator; anybody in --dev
    MEMBER = "member"  # a robot of that very registry, by id: a later registry of its name is another one
    STRANGER = "stranger"  # everybody else, nobody included


class Visibility(Enum):
    MISSING = "missing"  # not there, being made, or being deleted
    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Facts:
    """What of a registry a decision rests on. A flag is looked at wherever bytes are served (CVE-2026-27771)."""

    registry_id: str
    public: bool


# A member's rights are these as far as its own row lists them, on the images that its row names; what is public it may
# pull in any case.
GRANTS: Mapping[tuple[Standing, Visibility], frozenset[Action]] = MappingProxyType(
    {
        (Standing.OPERATOR, Visibility.MISSING): EVERYTHING,
        (Standing.OPERATOR, Visibility.PRIVATE): EVERYTHING,
        (Standing.OPERATOR, Visibility.PUBLIC): EVERYTHING,
        (Standing.MEMBER, Visibility.MISSING): NOTHING,
        (Standing.MEMBER, Visibility.PRIVATE): EVERYTHING,
        (Standing.MEMBER, Visibility.PUBLIC): EVERYTHING,
        (Standing.STRANGER, Visibility.MISSING): NOTHING,
        (Standing.STRANGER, Visibility.PRIVATE): NOTHING,
        (Standing.STRANGER, Visibility.PUBLIC): frozenset({Action.PULL}),
    }
)


def standing(account: Account, facts: Facts | None) -> Standing:
    if account.all_powerful:
        return Standing.OPERATOR
    if facts is not None and account.kind is Kind.ROBOT and account.registry_id == facts.registry_id:
        return Standing.MEMBER
    return Standing.STRANGER


def visibility(facts: Facts | None) -> Visibility:
    if facts is None:
        return Visibility.MISSING
    return Visibility.PUBLIC if facts.public else Visibility.PRIVATE


def grants(account: Account, facts: Facts | None, image: str) -> frozenset[Action]:
    """What the account may do to an image of a registry, whatever its token says; None is no such registry."""
    seen = visibility(facts)
    role = standing(account, facts)
    if role is Standing.MEMBER:
        own = account.actions if account.reaches(image) else NOTHING
        return GRANTS[role, seen] & own | GRANTS[Standing.STRANGER, seen]
    return GRANTS[role, seen]


class Means(Enum):
    """How a caller came, as far as routes without a repository care."""

    NONE = "none"  # no credentials at all
    TOKEN = "token"  # noqa: S105 - a bearer token of the token service, an anonymous one too
    ROBOT = "robot"  # a robot's password
    OPERATOR = "operator"  # the administrator's token itself; anybody in --dev
    API_ADMIN = "api_admin"  # an API token of that scope
    API_READ = "api_read"  # an API token of that scope
    API_OWN = "api_own"  # a registry's API token, on a route of that very registry
    API_OTHER = "api_other"  # a registry's API token, on a route of another one
    API_NOWHERE = "api_nowhere"  # a registry's API token, on a route that names no registry


class Verdict(Enum):
    ALLOW = "allow"
    IDENTIFY = "identify"  # 401: say who you are, or widen your token
    DENY = "deny"  # 403: we know who you are, and no
    HIDE = "hide"  # 404: for you there is no such thing, whether there is or not


# Routes that name no repository. CATALOG with a bearer token needs its scope besides. A docker token never manages,
# not even the administrator's: it is kept by clients that have no business under /v1. An API token never does anything
# else: outside of /v1 it is not even recognised.
_ANYBODY = {means: Verdict.DENY if means.value.startswith("api") else Verdict.ALLOW for means in Means}
_NO_MANAGER = {Means.NONE: Verdict.IDENTIFY, Means.TOKEN: Verdict.DENY, Means.ROBOT: Verdict.DENY}
_MANAGER = {
    **_NO_MANAGER,
    Means.OPERATOR: Verdict.ALLOW,
    Means.API_ADMIN: Verdict.ALLOW,
    Means.API_READ: Verdict.DENY,
    Means.API_OWN: Verdict.ALLOW,
    Means.API_OTHER: Verdict.HIDE,
    Means.API_NOWHERE: Verdict.DENY,
}
GENERAL: Mapping[Access, Mapping[Means, Verdict]] = MappingProxyType(
    {
        Access.OPEN: dict.fromkeys(Means, Verdict.ALLOW),
        Access.TOKEN: dict.fromkeys(Means, Verdict.ALLOW),
        Access.LOGIN: {**_ANYBODY, Means.NONE: Verdict.IDENTIFY},
        Access.CATALOG: {**_ANYBODY, Means.NONE: Verdict.IDENTIFY},
        Access.API_LIST: {**_MANAGER, Means.API_READ: Verdict.ALLOW, Means.API_NOWHERE: Verdict.ALLOW},
        Access.API_READ: {**_MANAGER, Means.API_READ: Verdict.ALLOW},
        Access.API_SECRET: _MANAGER,
        Access.API_WRITE: _MANAGER,
        Access.API_ADMIN: {**_MANAGER, Means.API_OWN: Verdict.DENY},
    }
)


def required_scope(access: Access, name: RepositoryName | None = None) -> str | None:
    """The challenge's ``scope``: what a token must hold for the route."""
    if access is Access.CATALOG:
        return scopes.CATALOG
    if name is None or not access.actions:
        return None
    return scopes.repository_scope(name, access.actions)
