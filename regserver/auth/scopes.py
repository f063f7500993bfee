"""Scopes of the token service (distribution, "Token Scope Documentation"): asked for as text, granted as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action
from regserver.model.names import RepositoryName

CATALOG = "registry:catalog:*"
MAX_REPOSITORIES = 200
MAX_NAME_CHARACTERS = 8192  # together: the token must fit a header line of 32 KiB
_REPOSITORY_TYPES = frozenset({"repository", "repository(plugin)"})


@dataclass(frozen=True, slots=True)
class Scopes:
    """Actions per repository. ``catalog``: listing repositories."""

    repositories: Mapping[RepositoryName, frozenset[Action]] = field(default_factory=dict)
    catalog: bool = False

    def __str__(self) -> str:
        """Separated by spaces, as the answer to a POST has it (RFC 6749 §5.1)."""
        parts = [repository_scope(name, actions) for name, actions in self.repositories.items()]
        return " ".join([*parts, CATALOG] if self.catalog else parts)


def repository_scope(name: RepositoryName, actions: frozenset[Action]) -> str:
    """The actions stand in one order: a client may compare challenges as text."""
    return f"repository:{name}:{','.join(action for action in Action if action in actions)}"


def parse(texts: Iterable[str]) -> Scopes:
    """What is asked for. A text may hold several scopes; several of one repository add up.

    Types, names and actions that mean nothing here are dropped: a client may pass a whole foreign challenge on. Raises
    RegistryError REQUEST_INVALID for more than a token can hold."""
    repositories: dict[RepositoryName, frozenset[Action]] = {}
    catalog = False
    characters = 0
    for text in texts:
        for scope in text.split():
            catalog = catalog or scope == CATALOG
            name, actions = _repository(scope)
            if name is None or not actions:
                continue
            if name not in repositories:
                characters += len(str(name))
            repositories[name] = repositories.get(name, frozenset()) | actions
            if len(repositories) > MAX_REPOSITORIES or characters > MAX_NAME_CHARACTERS:
                raise RegistryError(
                    ErrorCode.REQUEST_INVALID,
                    {"limit": MAX_REPOSITORIES},
                    message="more scopes than one token can hold; ask for fewer repositories",
                )
    return Scopes(repositories, catalog)


def _repository(scope: str) -> tuple[RepositoryName | None, frozenset[Action]]:
    """``repository:<name>:<actions>``, split at the first and the last colon: a name may begin with host:port."""
    kind, _, rest = scope.partition(":")
    name, colon, actions = rest.rpartition(":")
    if kind not in _REPOSITORY_TYPES or not colon:
        return None, frozenset()
    try:
        return RepositoryName.parse(name), _actions(actions)
    except RegistryError:
        return None, frozenset()


def _actions(text: str) -> frozenset[Action]:
    """``*`` is every action: skopeo asks for it before it deletes."""
    words = text.split(",")
    return frozenset(Action) if "*" in words else frozenset(action for action in Action if action in words)
