"""``/v1/registries/:id/gc``: collections that somebody asks for."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from regserver.mgmt import answers, body, paths
from regserver.mgmt.declared import Record
from regserver.mgmt.query import Query
from regserver.model.times import rfc3339
from regserver.storage.catalog.jobs import JobRow
from regserver.web.context import Call

_START = Record({})


async def start_job(request: web.Request, call: Call) -> web.Response:
    """200 with a running job: a new one, or the one that this registry has already."""
    registry_id = paths.registry_id(request)
    await body.optional(request, call, _START)
    job = await call.services.jobs.start(registry_id)
    return answers.single({"job_id": job.id, "status": job.status, "started_at": rfc3339(job.started_at)})


async def get_job(request: web.Request, call: Call) -> web.Response:
    registry = await call.services.registries.get(paths.registry_id(request))
    return answers.single(_job(await call.services.jobs.get(registry.id, paths.job_id(request))))


async def list_jobs(request: web.Request, call: Call) -> web.Response:
    """The newest first."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    registry = await call.services.registries.get(paths.registry_id(request))
    rows, total = await call.services.jobs.page(registry.id, paging.per_page, paging.offset)
    return answers.listed(request, [_job(row) for row in rows], total, paging)


def _job(row: JobRow) -> dict[str, Any]:
    return {
        "job_id": row.id,
        "status": row.status,
        "phase": row.phase,
        "progress": {"done": row.done, "total": row.total},
        "bytes_freed": row.bytes_freed,
        "blobs_deleted": row.blobs_deleted,
        "manifests_deleted": row.manifests_deleted,
        **(json.loads(row.report) if row.report else {}),
        **({"error": row.error} if row.error else {}),
        "started_at": rfc3339(row.started_at),
        **({"completed_at": rfc3339(row.completed_at)} if row.completed_at else {}),
    }
