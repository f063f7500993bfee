"""Who asks, and what a route demands. Values only: the decision is ``auth.authorize``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from regserver.model.audit import Actor
from regserver.model.names import RepositoryName


class Action(StrEnum):
    """What may be done to a repository (token specification, "scope"). The order is the order in challenges."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class Access(Enum):
    """What a route demands of its caller. A route without one cannot be built."""

    OPEN = "open"  # anybody: health, OPTIONS, the API description
    TOKEN = "token"  # noqa: S105 - the token service judges credentials itself
    LOGIN = "login"  # any live credentials, whatever they may do (end-1)
    CATALOG = "catalog"  # any live credentials; the answer is filtered
    PULL = "pull"  # pull on the repository of the path
    PUSH = "push"  # pull and push on it
    DELETE = "delete"  # delete on it
    API_READ = "api_read"  # /v1, changes nothing, shows no secret
    API_SECRET = "api_secret"  # noqa: S105 - /v1, shows or makes a secret
    API_WRITE = "api_write"  # /v1, changes something

    @property
    def actions(self) -> frozenset[Action]:
        """The repository actions that the access needs; empty where no repository is named."""
        return _NEEDS.get(self, frozenset())


_NEEDS = {
    Access.PULL: frozenset({Action.PULL}),
    Access.PUSH: frozenset({Action.PULL, Action.PUSH}),
    Access.DELETE: frozenset({Action.DELETE}),
}


class Kind(Enum):
    ANONYMOUS = "anonymous"
    ROBOT = "robot"
    ADMIN = "admin"
    DEVELOPER = "developer"  # anybody at all, where the server runs with --dev


@dataclass(frozen=True, slots=True)
class Account:
    """The party behind a request, read from its live credential row. Its grants are live: never from a token."""

    kind: Kind
    subject: str  # "robot$my-images", "admin", "developer", "" for nobody
    registry_id: str | None = None  # a robot's
    actions: frozenset[Action] = frozenset()  # a robot's, on its registry

    @property
    def all_powerful(self) -> bool:
        return self.kind in (Kind.ADMIN, Kind.DEVELOPER)


@dataclass(frozen=True, slots=True)
class Caller:
    """An account and how it came.

    ``session`` owns leases: a bearer token's ``jti``; with Basic and in ``--dev`` principal and address, and then
    ``shared`` is set, because several pushers may stand behind it and leases are counted.
    ``scopes`` narrows the account to what its bearer token was granted; None narrows nothing.
    ``address`` and ``request_id`` are for the audit log.
    """

    account: Account
    session: str
    shared: bool
    scopes: Mapping[RepositoryName, frozenset[Action]] | None = None
    catalog: bool = True  # may list repositories; a bearer token needs registry:catalog:* for it
    address: str = ""
    request_id: str = ""

    @property
    def actor(self) -> Actor:
        return Actor(self.account.subject, self.address, self.request_id)


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that authorisation has passed, pinned to its registry's id: a later one of that name is another."""

    registry_id: str
    name: RepositoryName
    rights: frozenset[Action] = field(default=frozenset())  # what this caller may do here, token scopes applied
