"""What each operation of the management API says of itself, beside the handler that does it.

``@operation`` goes over a handler; the handler's docstring is the description that readers see. Refusals that follow
from what an operation is (it has a body, a query, an id in its path, an access) follow here, in one place; what it may
refuse besides stands in its ``refusals``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

from aiohttp import hdrs

from regserver.errors import ErrorCode
from regserver.mgmt.declared import Record, Schema
from regserver.mgmt.query import FILTER, MAX_PAGE, MAX_PER_PAGE, PER_PAGE, SWITCH
from regserver.mgmt.schemas import page, single
from regserver.model.access import Access
from regserver.web.context import Handler, Route
from regserver.web.idempotency import KEY

JSON = "application/json"
HTML = "text/html"


class Group(Enum):
    """The chapters of the description, in their order."""

    REGISTRIES = "Registries", "A registry holds images under one name, with a quota and credentials of its own."
    CREDENTIALS = "Credentials", "What docker and every other client log in with."
    ROBOTS = "Robots", "More accounts of a registry: for some images, for pulling alone, for a while."
    IMAGES = "Images", "What was pushed, and undo for what was deleted. An image exists while it has a tag."
    COLLECTION = "Garbage collection", "Gives back the space of what nothing holds any more."
    SCRUB = "Scrub", "Whether what is stored still is what was pushed."
    TOKENS = "API tokens", "What programs call this API with. A token of docker's, or a robot's password, is none."
    AUDIT = "Audit log", "Who did what to what, and from where. Written with the change itself, kept for a set time."
    EVENTS = "Events", "What happens, as it happens: each event after its commit, in the order of the commits."
    DESCRIPTION = "Description", "This description, for machines and for people."

    def __init__(self, title: str, about: str) -> None:
        self.title = title
        self.about = about


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value in the query."""

    name: str
    schema: Schema
    about: str


# ---------------------------------------------------------------- parameters that ``Query`` reads

PAGING = (
    Parameter("page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1}, "Which page, from 1."),
    Parameter(
        "per_page",
        {"type": "integer", "minimum": 1, "maximum": MAX_PER_PAGE, "default": PER_PAGE},
        "How many on a page.",
    ),
)


def sorted_by(orders: type[StrEnum], default: StrEnum) -> Parameter:
    values = [str(order) for order in orders]
    return Parameter("sort", {"type": "string", "enum": values, "default": str(default)}, "Descending with a dash.")


def filtered_by(name: str, about: str) -> Parameter:
    return Parameter(name, {"type": "string", "pattern": f"^{FILTER}$"}, about)


def chosen_by(name: str, words: type[StrEnum], about: str) -> Parameter:
    return Parameter(name, {"type": "string", "enum": [str(word) for word in words]}, about)


def timed_by(name: str, about: str) -> Parameter:
    return Parameter(name, {"type": "string", "format": "date-time"}, about)


def switched_by(name: str, about: str) -> Parameter:
    return Parameter(name, {"type": "string", "enum": list(SWITCH), "default": "false"}, about)


# ---------------------------------------------------------------- operations


@dataclass(frozen=True, slots=True)
class Operation:
    """``answer`` is the whole body's schema; None: there is none. ``headers``: what an answer may carry besides."""

    group: Group
    summary: str
    about: str
    answer: Schema | None
    status: int
    media_type: str
    query: tuple[Parameter, ...]
    body: Record | None
    body_required: bool
    conditions: tuple[str, ...]
    headers: tuple[str, ...]
    refusals: frozenset[ErrorCode]


_described: dict[Handler, Operation] = {}  # filled while modules are imported, then only read


def operation(
    group: Group,
    summary: str,
    *,
    data: Schema | None = None,
    items: Schema | None = None,
    raw: tuple[str, Schema] | None = None,
    status: int = 200,
    query: Sequence[Parameter] = (),
    body: Record | None = None,
    optional_body: Record | None = None,
    conditions: Sequence[str] = (),
    headers: Sequence[str] = (),
    refusals: Iterable[ErrorCode] = (),
) -> Callable[[Handler], Handler]:
    """Describes a handler. It answers with ``data``, with pages of ``items``, with something ``raw`` (media type and
    schema), or with nothing at all. ``conditions``: the headers of the request that set one (``If-Match``)."""
    media_type, answer = raw or (JSON, single(data) if data is not None else None)
    if items is not None:
        answer, query, headers = page(items), [*PAGING, *query], [*headers, hdrs.LINK]

    def describe(handler: Handler) -> Handler:
        _described[handler] = Operation(
            group=group,
            summary=summary,
            about=" ".join((inspect.getdoc(handler) or "").split()),
            answer=answer,
            status=204 if answer is None else status,
            media_type=media_type,
            query=tuple(query),
            body=body or optional_body,
            body_required=body is not None,
            conditions=tuple(conditions),
            headers=tuple(headers),
            refusals=frozenset(refusals),
        )
        return handler

    return describe


def operation_of(route: Route) -> Operation:
    """Raises LookupError for a route that nobody has described."""
    found = _described.get(route.handler)
    if found is None:
        raise LookupError(f"{route.method} {route.path} has no @operation")
    return found


# ---------------------------------------------------------------- what may be refused

_ALWAYS = frozenset({ErrorCode.REQUEST_INVALID, ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE})
_IDENTIFIED = frozenset({ErrorCode.UNAUTHORIZED, ErrorCode.DENIED, ErrorCode.TOO_MANY_REQUESTS})
_BY_BODY = frozenset(
    {
        ErrorCode.MALFORMED_JSON,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.ENCODING_UNSUPPORTED,
        ErrorCode.MEDIA_TYPE_UNSUPPORTED,
        ErrorCode.VALIDATION_FAILED,
    }
)
_BY_KEY = frozenset({ErrorCode.KEY_REUSED, ErrorCode.REQUEST_IN_PROGRESS, ErrorCode.ANSWER_LOST} | _BY_BODY)


def request_headers(route: Route) -> tuple[str, ...]:
    """The headers of a request that change what a route does."""
    return (*operation_of(route).conditions, *([KEY] if route.method == hdrs.METH_POST else []))


def refusals(route: Route) -> frozenset[ErrorCode]:
    """Every way in which a route may refuse a request."""
    described = operation_of(route)
    found = _ALWAYS | described.refusals
    if route.access is not Access.OPEN:
        found |= _IDENTIFIED
    if "{" in route.path:
        found |= {ErrorCode.NOT_FOUND}
    if described.query:
        found |= {ErrorCode.VALIDATION_FAILED}
    if described.body is not None:
        found |= _BY_BODY
    if route.method == hdrs.METH_POST:
        found |= _BY_KEY
    if hdrs.IF_MATCH in described.conditions:
        found |= {ErrorCode.PRECONDITION_FAILED}
    return found
