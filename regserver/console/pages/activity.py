"""What is going on: the latest changes, and from then on each event as it happens."""

from __future__ import annotations

from aiohttp import web

from regserver.console import cookies
from regserver.console.visit import Visit
from regserver.content.audit import Audit
from regserver.content.events import Chosen
from regserver.model.access import Access
from regserver.storage.catalog.audit import EventFilter
from regserver.web import sse
from regserver.web.facts import one

LATEST = 30


async def show(visit: Visit) -> web.Response:
    newest = await visit.services.feed.newest()  # before the list: what comes between is shown twice, not never
    found = await Audit(visit.services.core).page(EventFilter(visible=visit.caller.visible), LATEST, 0)
    return visit.page("activity.html", events=found.events, newest=newest)


async def follow(visit: Visit) -> web.StreamResponse:
    """The stream of ``GET /v1/events``, for a browser: its cookie is what is judged, again and again."""
    services, request = visit.services, visit.request
    last = one(request, sse.LAST_ID) or visit.asked("after")
    place = int(last) if last.isascii() and last.isdigit() and len(last) <= 18 else None
    chosen = Chosen(visible=visit.caller.visible)
    return await sse.stream(
        request, services.feed, chosen, place, _judge(visit), services.settings.event_stream_seconds
    )


def _judge(visit: Visit) -> sse.Judge:
    async def judge() -> frozenset[str] | None:
        services = visit.services
        secret = cookies.read(visit.request, services.settings)
        again = await services.sessions.caller(secret, visit.caller.address)
        services.authorizer.general(again, Access.API_LIST)
        return again.visible

    return judge
