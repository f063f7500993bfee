"""What a handler is given: the services of the process and the facts of its call, decided before it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from regserver.auth.api_tokens import ApiTokens
from regserver.auth.authenticate import Authenticator
from regserver.auth.authorize import Authorizer
from regserver.auth.gate import Gate
from regserver.auth.robots import Robots
from regserver.auth.sessions import Sessions
from regserver.auth.tokens import Tokens
from regserver.config import Settings
from regserver.content.blobs import Blobs
from regserver.content.core import Core
from regserver.content.events import Feed
from regserver.content.figures import Stocktaking
from regserver.content.jobs import Jobs
from regserver.content.listing import Listing
from regserver.content.manifests import Manifests
from regserver.content.registries import Registries
from regserver.content.scrubbing import BackgroundScrub
from regserver.content.uploads import Uploads
from regserver.model.access import Access, Caller, Target


@dataclass(frozen=True, slots=True)
class Services:
    """Built once in ``app``; nothing in it remembers anything that the catalog could contradict."""

    settings: Settings
    core: Core
    authenticator: Authenticator
    gate: Gate
    authorizer: Authorizer
    tokens: Tokens
    robots: Robots
    api_tokens: ApiTokens
    blobs: Blobs
    uploads: Uploads
    manifests: Manifests
    listing: Listing
    registries: Registries
    jobs: Jobs
    scrub: BackgroundScrub
    feed: Feed
    stock: Stocktaking
    sessions: Sessions


SERVICES = web.AppKey("services", Services)


@dataclass(frozen=True, slots=True)
class Call:
    """One request after its access was decided. ``target`` is set on routes that name a repository under /v2."""

    services: Services
    caller: Caller
    target: Target | None = None

    @property
    def repository(self) -> Target:
        if self.target is None:
            raise LookupError("the route names no repository")
        return self.target


Handler = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
Renew = Callable[[web.Request, Call, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]  # from what of it is no secret


@dataclass(frozen=True, slots=True)
class Route:
    """A row of a route table. ``path`` is aiohttp's pattern; ``{name}`` under /v2 is a repository, ``{registry_id}``
    under /v1 a registry: what a registry's API token is held against. ``renew`` makes what is secret of a POST's answer
    again, for one that is repeated under its idempotency key. ``kept``: a 200 is a function of the request and of what
    it read, and so may be given again (web.kept)."""

    method: str
    path: str
    access: Access
    handler: Handler
    renew: Renew | None = None
    kept: bool = False
