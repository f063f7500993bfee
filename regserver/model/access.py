"""Who asks, and what a route demands. Values only: the decision is ``auth.authorize``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from regserver.model.audit import Actor
from regserver.model.globs import Globs
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
    API_LIST = "api_list"  # /v1, lists across registries; the answer is filtered
    API_READ = "api_read"  # /v1, changes nothing, shows no secret
    API_SECRET = "api_secret"  # noqa: S105 - /v1, shows or makes a secret
    API_WRITE = "api_write"  # /v1, changes something
    API_ADMIN = "api_admin"  # /v1, for who manages everything: new registries, API tokens

    @property
    def actions(self) -> frozenset[Action]:
        """The repository actions that the access needs; empty where no repository is named."""
        return _NEEDS.get(self, frozenset())

    @property
    def manages(self) -> bool:
        """Whether it is one of the management API: nowhere else an API token is known."""
        return self in _MANAGES


_NEEDS = {
    Access.PULL: frozenset({Action.PULL}),
    Access.PUSH: frozenset({Action.PULL, Action.PUSH}),
    Access.DELETE: frozenset({Action.DELETE}),
}
_MANAGES = frozenset({Access.API_LIST, Access.API_READ, Access.API_SECRET, Access.API_WRITE, Access.API_ADMIN})


class Kind(Enum):
    ANONYMOUS = "anonymous"
    ROBOT = "robot"
    ADMIN = "admin"
    API_TOKEN = "api_token"  # noqa: S105 - of the management API, and of nothing else
    DEVELOPER = "developer"  # anybody at all, where the server runs with --dev


@dataclass(frozen=True, slots=True)
class Account:
    """The party behind a request, read from its live credential row. Its grants are live: never from a token."""

    kind: Kind
    subject: str  # "robot$my-images", "admin", "tok_…", "developer", "" for nobody
    registry_id: str | None = None  # a robot's
    actions: frozenset[Action] = frozenset()  # a robot's, on its registry
    images: Globs | None = None  # a robot's: on these images of it; None is all

    @property
    def all_powerful(self) -> bool:
        return self.kind in (Kind.ADMIN, Kind.DEVELOPER)

    def reaches(self, image: str) -> bool:
        """Whether what it may do on its registry holds for that image."""
        return self.images is None or self.images.reach(image)


ADMIN_SCOPE, READ_SCOPE, REGISTRY_SCOPE = "admin", "read", "registry:"  # the last one is followed by an id


@dataclass(frozen=True, slots=True)
class Permit:
    """What an API token opens: everything, everything that shows and is no secret, or some registries whole."""

    admin: bool = False
    read: bool = False
    registries: frozenset[str] = frozenset()  # ids

    @classmethod
    def of(cls, scopes: Iterable[str]) -> Permit:
        """What is no scope opens nothing."""
        known = frozenset(scopes)
        ids = frozenset(scope.removeprefix(REGISTRY_SCOPE) for scope in known if scope.startswith(REGISTRY_SCOPE))
        return cls(ADMIN_SCOPE in known, READ_SCOPE in known, ids)

    @property
    def scopes(self) -> tuple[str, ...]:
        """In a fixed order."""
        general = [scope for scope, given in ((ADMIN_SCOPE, self.admin), (READ_SCOPE, self.read)) if given]
        return (*general, *(REGISTRY_SCOPE + identity for identity in sorted(self.registries)))


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
    permit: Permit | None = None  # an API token's; None came otherwise
    address: str = ""
    request_id: str = ""

    @property
    def actor(self) -> Actor:
        return Actor(self.account.subject, self.address, self.request_id)

    @property
    def visible(self) -> frozenset[str] | None:
        """The ids of the registries that a list under /v1 may hold; None is all."""
        permit = self.permit
        return None if permit is None or permit.admin or permit.read else permit.registries


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that authorisation has passed, pinned to its registry's id: a later one of that name is another."""

    registry_id: str
    name: RepositoryName
    rights: frozenset[Action] = field(default=frozenset())  # what this caller may do here, token scopes applied
