"""``/v1/registries/:id/gc``: collections that somebody asks for."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from regserver.content.explain import Explain
from regserver.errors import ErrorCode
from regserver.mgmt import answers, body, paths
from regserver.mgmt.declared import About, Flag, Record
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import EXPLANATION, JOB, JOB_STARTED, REPORT_ITEM
from regserver.model.times import now_ms, rfc3339
from regserver.storage.catalog.jobs import JobRow
from regserver.web.context import Call

_START = Record({"dry_run": About("Say what would go; delete nothing.", Flag())})


@operation(
    Group.COLLECTION,
    "Collect, or try it",
    data={"anyOf": [JOB_STARTED, JOB]},
    optional_body=_START,
    refusals=[ErrorCode.NOT_READY],
)
async def start_job(request: web.Request, call: Call) -> web.Response:
    """200 with a running job: a new one, or the one that this registry has already. A dry run has ended when it is
    answered, and its counts say what would go."""
    registry_id = paths.registry_id(request)
    values = await body.optional(request, call, _START)
    if values.get("dry_run"):
        return answers.single(_job(await call.services.jobs.dry_run(registry_id, call.caller.actor)))
    job = await call.services.jobs.start(registry_id, call.caller.actor)
    return answers.single({"job_id": job.id, "status": job.status, "started_at": rfc3339(job.started_at)})


@operation(Group.COLLECTION, "Get a collection", data=JOB)
async def get_job(request: web.Request, call: Call) -> web.Response:
    registry = await call.services.registries.get(paths.registry_id(request))
    return answers.single(_job(await call.services.jobs.get(registry.id, paths.job_id(request))))


@operation(Group.COLLECTION, "Cancel a collection", data=JOB)
async def cancel_job(request: web.Request, call: Call) -> web.Response:
    """It ends before its next batch, with status `failed` and `cancelled_by`; what it has freed stays freed. A job that
    has ended is answered as it is."""
    registry = await call.services.registries.get(paths.registry_id(request))
    return answers.single(_job(await call.services.jobs.cancel(registry.id, paths.job_id(request), call.caller.actor)))


@operation(Group.COLLECTION, "List collections", items=JOB)
async def list_jobs(request: web.Request, call: Call) -> web.Response:
    """The newest first."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    registry = await call.services.registries.get(paths.registry_id(request))
    rows, total = await call.services.jobs.page(registry.id, paging.per_page, paging.offset)
    return answers.listed(request, [_job(row) for row in rows], total, paging)


@operation(Group.COLLECTION, "List what a dry run found", items=REPORT_ITEM)
async def get_report(request: web.Request, call: Call) -> web.Response:
    """What a dry run found, one thing a row: manifests before blobs. Empty for a collection that was done."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    registry = await call.services.registries.get(paths.registry_id(request))
    items = await call.services.jobs.found(registry.id, paths.job_id(request))
    rows = [_item(item) for item in items[paging.offset : paging.offset + paging.per_page]]
    return answers.listed(request, rows, len(items), paging)


@operation(Group.COLLECTION, "Explain why a digest is kept", data=EXPLANATION)
async def explain(request: web.Request, call: Call) -> web.Response:
    """Why a digest is kept: the shortest path from a tag, or the lease or window, and until when."""
    registry = await call.services.registries.get(paths.registry_id(request))
    answer = await Explain(call.services.core).why(registry.id, paths.digest(request))
    ends = None if answer.seconds is None else rfc3339(now_ms() + answer.seconds * 1000)
    return answers.single(
        {
            "digest": answer.digest,
            "kind": answer.kind,
            "kept": answer.kept,
            "reason": answer.reason,
            "image": answer.image,
            "path": list(answer.path),
            "until": ends,
            **({"damaged": True} if answer.damaged else {}),
        }
    )


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {**{name: item[name] for name in ("kind", "image", "digest", "reason")}, "size_bytes": item["size"]}


def _job(row: JobRow) -> dict[str, Any]:
    return {
        "job_id": row.id,
        "status": row.status,
        "phase": row.phase,
        "progress": {"done": row.done, "total": row.total},
        "bytes_freed": row.bytes_freed,
        "blobs_deleted": row.blobs_deleted,
        "manifests_deleted": row.manifests_deleted,
        **_report(row),
        **({"error": row.error} if row.error else {}),
        **({"started_by": row.started_by} if row.started_by else {}),
        **({"cancelled_by": row.cancelled_by} if row.cancelled_by else {}),
        "started_at": rfc3339(row.started_at),
        **({"completed_at": rfc3339(row.completed_at)} if row.completed_at else {}),
    }


def _report(row: JobRow) -> dict[str, Any]:
    """What still holds something, or that it was a dry run."""
    report: dict[str, Any] = json.loads(row.report) if row.report else {}
    return report
