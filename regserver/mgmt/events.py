"""``/v1/events``: what happens, as it happens."""

from __future__ import annotations

from aiohttp import hdrs, web

from regserver.content.events import Chosen
from regserver.mgmt.operations import Group, Parameter, filtered_by, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import SENT_EVENT
from regserver.model.access import Access
from regserver.model.audit import Actor
from regserver.model.events import EventType
from regserver.model.ids import is_id
from regserver.web import sse
from regserver.web.context import Call
from regserver.web.facts import one

_TYPES = "|".join(EventType)


@operation(
    Group.EVENTS,
    "Follow what happens",
    raw=(sse.MEDIA_TYPE, SENT_EVENT),
    query=[
        filtered_by("registry", "What happens in this registry, by its name or its id."),
        Parameter(
            "type",
            {"type": "string", "pattern": f"^(?:{_TYPES})(?:,(?:{_TYPES}))*$"},
            "Events of these types, separated by commas.",
        ),
        Parameter(
            "after", {"type": "string", "pattern": "^[0-9]{1,18}$"}, "From behind this id on; 0: all that is kept."
        ),
    ],
    conditions=[sse.LAST_ID],
)
async def follow_events(request: web.Request, call: Call) -> web.StreamResponse:
    """Server-sent events, in the order in which they were committed, none twice and none left out; `data` is a JSON
    object. Without `after` and `Last-Event-ID` it begins with what happens next. `closing` says why a stream ends
    (come again with the last id), `lost` that events behind the id are kept no more. A registry's token sees what
    happens in its registries."""
    query = Query(request)
    registry, types = query.text("registry"), query.choices("type", EventType)
    after, last = query.number("after"), query.number_of(sse.LAST_ID, one(request, sse.LAST_ID))
    query.finish()
    by_id = registry is not None and is_id("reg", registry)
    chosen = Chosen(
        types=None if types is None else frozenset(map(str, types)),
        registry_id=registry if by_id else None,
        registry=None if by_id else registry,
        visible=call.caller.visible,
    )
    place, seconds = after if last is None else last, call.services.settings.event_stream_seconds
    return await sse.stream(request, call.services.feed, chosen, place, _judge(request, call), seconds)


def _judge(request: web.Request, call: Call) -> sse.Judge:
    """The same credentials, asked again: a token that was deleted meanwhile sees no more."""
    services, caller = call.services, call.caller
    origin = Actor("", caller.address, caller.request_id)

    async def judge() -> frozenset[str] | None:
        again = await services.gate.caller(request.headers.get(hdrs.AUTHORIZATION), origin, manages=True)
        services.authorizer.general(again, Access.API_LIST)
        return again.visible

    return judge
