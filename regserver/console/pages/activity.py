"""What is going on: the latest changes, and from then on each event as it happens."""

from __future__ import annotations

from aiohttp import web

from regserver.console.visit import Visit
from regserver.content.audit import Audit
from regserver.storage.catalog.audit import EventFilter

LATEST = 30


async def show(visit: Visit) -> web.Response:
    found = await Audit(visit.services.core).page(EventFilter(visible=visit.caller.visible), LATEST, 0)
    return visit.page("activity.html", events=found.events)
