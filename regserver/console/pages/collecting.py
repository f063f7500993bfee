"""Collections: started, tried, watched and cancelled; and why something is kept."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from regserver.console import links
from regserver.console.pages.registry import frame
from regserver.console.visit import Visit, see_other
from regserver.content.explain import Explain, Explanation
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Access
from regserver.model.digest import Digest
from regserver.model.ids import is_id
from regserver.model.times import now_ms
from regserver.storage.catalog.jobs import JobRow, JobStatus

JOBS = 20
SHOWN = 500


async def show(visit: Visit) -> web.Response:
    top = await frame(visit, "collection")
    jobs, total = await visit.services.jobs.page(visit.registry_id, JOBS, 0)
    wanted = visit.asked("job")
    chosen = await _job(visit, wanted) if wanted else next((job for job in jobs if _is_running(job)), None)
    items = await visit.services.jobs.found(visit.registry_id, chosen.id) if chosen else []
    digest = visit.asked("digest").strip()
    answer, fault = await _why(visit, digest) if digest else (None, "")
    return visit.page(
        "collection.html",
        **top,
        jobs=jobs,
        total=total,
        job=chosen,
        report=_report(chosen),
        items=items[:SHOWN],
        more=len(items) - SHOWN,
        digest=digest[:200],
        answer=answer,
        until=None if answer is None or answer.seconds is None else now_ms() + answer.seconds * 1000,
        fault=fault,
    )


async def _why(visit: Visit, digest: str) -> tuple[Explanation | None, str]:
    try:
        return await Explain(visit.services.core).why(visit.registry_id, Digest.parse(digest)), ""
    except RegistryError as refused:
        if refused.code is ErrorCode.NOT_FOUND:
            return None, "This registry holds nothing of that digest."
        return None, "That is no digest: it begins with sha256: and has 64 digits of 0-9 and a-f after that."


async def start(visit: Visit) -> web.Response:
    jobs, by = visit.services.jobs, visit.caller.actor
    row = await (jobs.dry_run if "dry_run" in visit.form else jobs.start)(visit.registry_id, by)
    return see_other(links.registry(visit.registry_id, "collection", job=row.id))


async def cancel(visit: Visit) -> web.Response:
    job = await _job(visit, visit.form.get("job", ""))
    await visit.services.jobs.cancel(visit.registry_id, job.id, visit.caller.actor)
    return see_other(links.registry(visit.registry_id, "collection", job=job.id, said="collection-cancelled"))


async def progress(visit: Visit) -> web.Response:
    """The part of the page that changes while a collection runs; once it has ended nothing asks for it again."""
    registry = await visit.registry()
    job = await _job(visit, visit.asked("job"))
    may_write = visit.may(Access.API_WRITE, visit.registry_id)
    return visit.page("job.html", registry=registry, job=job, report=_report(job), may_write=may_write)


async def _job(visit: Visit, job_id: str) -> JobRow:
    """Raises RegistryError NOT_FOUND."""
    if not is_id("gc", job_id):
        raise RegistryError(ErrorCode.NOT_FOUND)
    return await visit.services.jobs.get(visit.registry_id, job_id)


def _is_running(job: JobRow) -> bool:
    return job.status is JobStatus.RUNNING


def _report(job: JobRow | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.report) if job and job.report else {}
    return found
