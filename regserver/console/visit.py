"""What a page is given: who looks at it, and the values of its address and its form, parsed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from regserver.auth.sessions import form_token
from regserver.console import rendering
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Access, Caller, Target
from regserver.model.digest import Digest
from regserver.model.names import Reference, RepositoryName, Tag, is_image_name, parse_reference
from regserver.storage.catalog.registries import RegistryRow
from regserver.web.challenge import public_base
from regserver.web.context import Services
from regserver.web.facts import asked

MAX_PAGE = 100_000
MAX_FIELDS = 100
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page, after its access was decided."""

    request: web.Request
    services: Services
    caller: Caller
    secret: str  # of the browser's cookie
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def registry_id(self) -> str:
        return self.params["registry_id"]

    @property
    def host(self) -> str:
        """Where clients reach this registry: ``host[:port]``."""
        return public_base(self.request, self.services.settings).host_port_subcomponent or ""

    def may(self, access: Access, registry_id: str | None = None) -> bool:
        """Whether a button is worth showing; the route behind it is judged again."""
        try:
            self.services.authorizer.general(self.caller, access, registry_id)
        except RegistryError:
            return False
        return True

    async def registry(self) -> RegistryRow:
        """Raises RegistryError NOT_FOUND."""
        return await self.services.registries.get(self.registry_id)

    def asked(self, name: str, default: str = "") -> str:
        """A parameter of the address. Raises RegistryError REQUEST_INVALID."""
        return asked(self.request, name) or default

    def number(self, name: str, default: int = 1) -> int:
        text = self.asked(name)
        return min(max(int(text), 1), MAX_PAGE) if text.isascii() and text.isdigit() and len(text) < 10 else default

    def target(self, registry: RegistryRow, name: str | None = None) -> Target:
        """The image that the address names. Raises RegistryError NOT_FOUND."""
        image = self.asked("image") if name is None else name
        if not is_image_name(image):
            raise RegistryError(ErrorCode.NOT_FOUND)
        return Target(registry.id, RepositoryName(registry.name, image))

    def reference(self, name: str = "ref") -> Reference:
        """Raises RegistryError NOT_FOUND."""
        try:
            return parse_reference(self.asked(name) or self.form.get(name, ""))
        except RegistryError:
            raise RegistryError(ErrorCode.NOT_FOUND) from None

    def tag(self, name: str = "tag") -> Tag:
        """Raises RegistryError NOT_FOUND."""
        found = self.reference(name)
        if isinstance(found, Tag):
            return found
        raise RegistryError(ErrorCode.NOT_FOUND)

    def digest(self, name: str = "digest") -> Digest:
        """Raises RegistryError NOT_FOUND."""
        found = self.reference(name)
        if isinstance(found, Digest):
            return found
        raise RegistryError(ErrorCode.NOT_FOUND)

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page of the console; nobody but this browser may keep it, and it does not."""
        text = rendering.render(template, {**self._base(), **values})
        return web.Response(
            status=status, text=text, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"}
        )

    def _base(self) -> dict[str, Any]:
        account = self.caller.account
        return {
            "form_token": form_token(self.secret),
            "account": account.subject,
            "is_dev": self.services.settings.dev,
            "may": self.may,
            "host": self.host,
            "path": self.request.path,
            "query": self.request.query,
            "said": self.request.query.get("said", ""),
        }


Handler = Callable[[Visit], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Page:
    """A row of the console's table of routes: what it demands is part of it, as under /v1."""

    method: str
    path: str
    access: Access
    handler: Handler


def see_other(location: str) -> web.Response:
    """After a change: the browser asks for a page again, so that going back or reloading repeats nothing."""
    return web.Response(status=303, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})


def parse_form(content: bytes) -> dict[str, str]:
    """The fields of a form; where one comes twice, the last. Raises RegistryError REQUEST_INVALID."""
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise RegistryError(ErrorCode.REQUEST_INVALID, message="the form cannot be read") from None
    return dict(pairs)
