"""``/v1/audit``: who did what to what, and from where."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.content.audit import Audit
from regserver.mgmt import answers
from regserver.mgmt.answers import Following
from regserver.mgmt.operations import Group, Parameter, chosen_by, filtered_by, operation, timed_by
from regserver.mgmt.query import Query
from regserver.mgmt.resources import AUDIT_EVENT
from regserver.mgmt.schemas import identity
from regserver.model.audit import AuditAction
from regserver.model.ids import is_id
from regserver.model.times import rfc3339
from regserver.storage.catalog.audit import PREFIX, EventFilter, EventRow
from regserver.web.context import Call


@operation(
    Group.AUDIT,
    "List what was done",
    items=AUDIT_EVENT,
    query=[
        filtered_by("registry", "What was done in this registry, by its name or its id; also after it is gone."),
        filtered_by("actor", "What this account did."),
        chosen_by("action", AuditAction, "What was done in this way."),
        timed_by("since", "From this time on."),
        timed_by("until", "Before this time."),
        filtered_by("q", "What has this anywhere: in an account, image, tag, digest, address or request."),
        Parameter("before", identity(PREFIX), "Older than this event: what the next page begins with."),
    ],
)
async def list_events(request: web.Request, call: Call) -> web.Response:
    """The newest first. `Link` continues after the last event shown, so nothing that happens meanwhile shifts it.
    `total` is exact up to 10,000 and at least that beyond. With `q` a page looks through 3,000 lines, counts within
    them, and `Link` leads on from there, even where it found nothing. A registry's token sees what was done in its
    registries."""
    query = Query(request)
    paging, registry = query.paging(), query.text("registry")
    by_id = registry is not None and is_id("reg", registry)
    chosen = EventFilter(
        registry_id=registry if by_id else None,
        registry=None if by_id else registry,
        actor=query.text("actor"),
        action=query.choice("action", AuditAction),
        since=query.moment("since"),
        until=query.moment("until"),
        before=query.identity("before", PREFIX),
        containing=query.text("q"),
        visible=call.caller.visible,
    )
    query.finish()
    found = await Audit(call.services.core).page(chosen, paging.per_page, paging.offset)
    following: Following = None if found.following is None else {"before": found.following, "page": 1}
    return answers.continued(request, [_event(row) for row in found.events], found.total, paging, following)


def _event(row: EventRow) -> dict[str, Any]:
    return {**row._asdict(), "at": rfc3339(row.at)}
