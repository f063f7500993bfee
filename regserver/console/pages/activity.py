"""What is going on: the latest events, and from then on each one as it happens."""

from __future__ import annotations

from aiohttp import web

from regserver.console import cookies, links
from regserver.console.visit import Visit
from regserver.content.events import Chosen
from regserver.model.access import Access
from regserver.model.events import EventType
from regserver.storage.catalog.events import EventRow
from regserver.web import sse
from regserver.web.facts import one

BEHIND = 200  # ids that are looked through for the latest events
LATEST = 40


async def show(visit: Visit) -> web.Response:
    """The page goes on from the newest event that it shows: none is left out, and none is shown twice."""
    chosen, page = Chosen(visible=visit.caller.visible), await visit.services.feed.latest(BEHIND)
    events = [row for row in reversed(page.rows) if chosen.takes(row)]
    return visit.page("activity.html", events=events[:LATEST], newest=page.place, address=address)


def address(row: EventRow) -> str:
    """Where one sees what the event tells of."""
    registry, image, reference = row.registry_id, row.image, row.reference or row.digest
    if row.type == EventType.COLLECTED:
        return links.registry(registry, "collection", job=row.reference)
    if not image or row.type == EventType.DELETED:
        return links.registry(registry)
    return links.manifest(registry, image, reference) if reference else links.image(registry, image)


async def follow(visit: Visit) -> web.StreamResponse:
    """The stream of ``GET /v1/events``, for a browser: its cookie is what is judged, again and again."""
    services, request = visit.services, visit.request
    last = one(request, sse.LAST_ID) or visit.asked("after")
    place = int(last) if last.isascii() and last.isdigit() and len(last) <= 18 else None
    chosen = Chosen(visible=visit.caller.visible)
    seconds = services.settings.event_stream_seconds
    return await sse.stream(request, services.feed, chosen, place, _judge(visit), seconds)


def _judge(visit: Visit) -> sse.Judge:
    async def judge() -> frozenset[str] | None:
        services = visit.services
        secret = cookies.read(visit.request, services.settings)
        again = await services.sessions.caller(secret, visit.caller.address)
        services.authorizer.general(again, Access.API_LIST)
        return again.visible

    return judge
