"""``/v1/scrub``: how far the scrub in the background is, and what has been found damaged."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.content.scrubbing import Damage, Standing
from regserver.mgmt import answers
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import DAMAGE, SCRUB
from regserver.model.times import now_ms, rfc3339
from regserver.web.context import Call


@operation(Group.SCRUB, "Get the state of the scrub", data=SCRUB)
async def get_scrub(request: web.Request, call: Call) -> web.Response:
    """The pass in the background that runs, or the last one that ended, and how much is damaged now."""
    return answers.single(_standing(await call.services.scrub.standing()))


@operation(Group.SCRUB, "List what is damaged", items=DAMAGE)
async def list_damage(request: web.Request, call: Call) -> web.Response:
    """The latest finding first. Each is served to nobody until it is pushed again."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    rows, total = await call.services.scrub.damage(paging.per_page, paging.offset)
    return answers.listed(request, [_damage(row) for row in rows], total, paging)


def _standing(standing: Standing) -> dict[str, Any]:
    row, settings = standing.row, standing.settings
    shown: dict[str, Any] = {
        "status": standing.status,
        "bytes_per_second": settings.scrub_bytes_per_second,
        "damaged_blobs": standing.damaged_blobs,
        "damaged_manifests": standing.damaged_manifests,
    }
    if row is None:
        return shown
    shown |= {
        "phase": row.phase or "done",
        "progress": {"done": min(row.bytes, row.bytes_total), "total": row.bytes_total},
        "blobs_read": row.blobs,
        "manifests_read": row.manifests,
        "started_at": rfc3339(row.started_at),
    }
    if row.phase is None and row.ended_at is not None:
        shown["completed_at"] = rfc3339(row.ended_at)
        shown["next_at"] = rfc3339(max(now_ms(), row.ended_at + settings.scrub_interval_seconds * 1000))
    return shown


def _damage(damage: Damage) -> dict[str, Any]:
    return {
        "kind": damage.kind,
        "digest": damage.digest,
        "fault": damage.fault,
        "found_at": rfc3339(damage.found_at),
        "images": list(damage.images),
    }
