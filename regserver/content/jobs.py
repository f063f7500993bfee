"""Collections as jobs with a row: found again by their id, resumed after a restart, cancelled from anywhere.

A job that is asked for again while it runs goes round once more before it ends: who deletes something and then asks has
the space back when the job says ``completed``, wherever the job stood.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import asdict
from typing import Any

from regserver.content.collector import Collector, Progress
from regserver.content.core import Core
from regserver.content.explain import Explain
from regserver.content.waiting import set_within
from regserver.errors import ErrorCode, RegistryError
from regserver.model.audit import SERVER, Actor, AuditAction
from regserver.model.events import EventType
from regserver.model.ids import new_id
from regserver.model.times import now_ms
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.catalog import audit, events, jobs, registries
from regserver.storage.catalog.jobs import JobRow, JobStatus
from regserver.storage.catalog.registries import Status
from regserver.storage.sql.port import DatabaseFailed, Reader, Transaction

log = logging.getLogger("regserver.jobs")

LOOK_SECONDS = 0.5  # between two looks for jobs that another process was asked for
PROGRESS_SECONDS = 0.5  # between two writes of a job's progress
CANCELLED = "cancelled; what it had freed stays freed"


class JobEnded(Exception):
    """The row says that the job has ended, and it is not this run that ended it."""


class Jobs:
    """Owns the tasks of this process. One job per registry is the table's rule, not this object's.

    Not ``runs_here``: until ``run`` is called, jobs are only written down, for the process whose turn it is.
    """

    def __init__(self, core: Core, collector: Collector, *, runs_here: bool = True) -> None:
        self._core = core
        self._runs_here = runs_here
        self._collector = collector
        self._explain = Explain(core)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._given_up: set[str] = set()  # failed, and the catalog did not take that
        self._closed = False

    async def run(self, stop: asyncio.Event) -> None:
        """From now on this process runs the jobs, whoever was asked for them: those of a process that has ended at
        once, others within a moment. Looks for them until ``stop``."""
        self._runs_here = True
        while True:
            try:
                await self.resume()
            except DatabaseFailed as failed:
                log.warning("no look at the jobs: %s", failed)
            if await set_within(stop, LOOK_SECONDS):
                return

    async def start(self, registry_id: str, by: Actor = SERVER, *, patient: bool = False) -> JobRow:
        """A new job, running; or the one that runs already. Raises RegistryError NOT_FOUND, NOT_READY.

        ``patient``, for the schedule: it leaves what can be undone, and adds nothing to a job that runs.
        """
        job_id = new_id("gc")

        async def body(tx: Transaction) -> JobRow:
            await _ready(tx, registry_id)
            now = now_ms()
            job = await jobs.insert_or_running(tx, job_id, registry_id, now, by=by.subject, patient=patient)
            if job.id == job_id:
                await registries.collected(tx, registry_id, now)
                await audit.record(tx, by, AuditAction.GC_START, registry_id=registry_id, reference=job_id)
            elif not patient:
                await jobs.ask_again(tx, job.id)
            return job

        job = await self._core.db.write(body)
        if job.id == job_id and self._runs_here:
            self._run(job)
        return job

    async def dry_run(self, registry_id: str, by: Actor = SERVER) -> JobRow:
        """What a collection would take now, noted as a job that has ended; it changes nothing and waits for nothing.

        Raises RegistryError NOT_FOUND, NOT_READY.
        """
        job_id, started = new_id("gc"), now_ms()
        forecast = await self._explain.forecast(registry_id)
        counts = (forecast.bytes_freed, len(forecast.blobs), len(forecast.manifests))
        found = {"items": [asdict(item) for item in (*forecast.manifests, *forecast.blobs)]}

        async def body(tx: Transaction) -> JobRow:
            await _ready(tx, registry_id)
            text = json.dumps(found)
            await audit.record(tx, by, AuditAction.GC_DRY_RUN, registry_id=registry_id, reference=job_id)
            return await jobs.insert_forecast(tx, job_id, registry_id, counts, text, (started, now_ms()), by.subject)

        return await self._core.db.write(body)

    async def get(self, registry_id: str, job_id: str) -> JobRow:
        """Raises RegistryError NOT_FOUND, also for another registry's job."""
        job = await jobs.by_id(self._core.db, registry_id, job_id)
        if job is None:
            raise RegistryError(ErrorCode.NOT_FOUND)
        return job

    async def found(self, registry_id: str, job_id: str) -> list[dict[str, Any]]:
        """What a dry run found, item by item; nothing for a collection. Raises RegistryError NOT_FOUND."""
        await self.get(registry_id, job_id)
        text = await jobs.found(self._core.db, registry_id, job_id)
        items: list[dict[str, Any]] = json.loads(text)["items"] if text else []
        return items

    async def page(self, registry_id: str, limit: int, offset: int) -> tuple[list[JobRow], int]:
        async def body(reader: Reader) -> tuple[list[JobRow], int]:
            return await jobs.page(reader, registry_id, limit, offset)

        return await self._core.db.read(body)

    async def cancel(self, registry_id: str, job_id: str, by: Actor) -> JobRow:
        """Ends a running job before its next batch; what it has freed stays freed. One that has ended is left as it is.

        Raises RegistryError NOT_FOUND.
        """

        async def body(tx: Transaction) -> JobRow:
            job = await jobs.by_id(tx, registry_id, job_id)
            if job is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            if await jobs.cancel(tx, job_id, CANCELLED, by.subject, now_ms()):
                await audit.record(tx, by, AuditAction.GC_CANCEL, registry_id=registry_id, reference=job_id)
                await _tell(tx, registry_id, job_id)
            return await jobs.by_id(tx, registry_id, job_id) or job

        return await self._core.db.write(body)

    async def until_ended(self, job: JobRow) -> bool:
        """Returns when this process has ended the job, whichever way; False, and at once, if it does not run here."""
        task = self._tasks.get(job.id)
        if task is not None:
            await asyncio.wait({task})
        return task is not None

    async def resume(self) -> None:
        """Goes on with what ran when the last process ended. A collection may always be begun again."""
        for job in await jobs.all_running(self._core.db):
            if job.id not in self._given_up:
                self._run(job)

    async def close(self) -> None:
        """Ends the tasks; their rows stay ``running`` for the next process."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, job: JobRow) -> None:
        if self._closed or job.id in self._tasks:
            return  # the next process resumes it, or it runs
        task = asyncio.create_task(self._collect(job), name=job.id)
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _collect(self, job: JobRow) -> None:
        try:
            round_: JobRow | None = job
            while round_ is not None and round_.status is JobStatus.RUNNING:
                round_ = await self._go_round(round_)
        except JobEnded:
            log.info("collection %s of %s was cancelled", job.id, job.registry_id)
        except Exception as error:
            log.exception("collection %s of %s failed", job.id, job.registry_id)
            try:
                await self._fail(job, error)
            except DatabaseFailed:  # it stays running, and the next process resumes it
                self._given_up.add(job.id)

    async def _go_round(self, job: JobRow) -> JobRow | None:
        """One collection; returns the job as it is then: running if it was asked for again meanwhile."""
        noted = _Noted(self._core, job.id)
        report = await self._collector.collect(
            job.registry_id, noted.note, job_id=job.id, patient=job.patient, loose=not (job.patient and job.is_fresh)
        )
        held = json.dumps({"held": [asdict(held) for held in report.held]})

        async def body(tx: Transaction) -> JobRow | None:
            if await jobs.complete(tx, job.id, job.asked, held, now_ms()):
                await _tell(tx, job.registry_id, job.id)
            return await jobs.by_id(tx, job.registry_id, job.id)

        return self._counted(await self._core.db.write(body))

    def _counted(self, job: JobRow | None) -> JobRow | None:
        if job is not None and job.status is not JobStatus.RUNNING:
            self._core.numbers.ended(
                completed=job.status is JobStatus.COMPLETED,
                freed_bytes=job.bytes_freed,
                blobs=job.blobs_deleted,
                manifests=job.manifests_deleted,
            )
        return job

    async def _fail(self, job: JobRow, error: Exception) -> None:
        if isinstance(error, StoreFailed) and error.fatal:
            self._core.health.fail("a sync to disk failed; check the disk, then restart")

        async def body(tx: Transaction) -> JobRow | None:
            if await jobs.fail(tx, job.id, _reason(error), now_ms()):
                await _tell(tx, job.registry_id, job.id)
            return await jobs.by_id(tx, job.registry_id, job.id)

        self._counted(await self._core.db.write(body))


class _Noted:
    """A collection's progress, written where people can read it: each new phase, and now and then."""

    def __init__(self, core: Core, job_id: str) -> None:
        self._core = core
        self._job_id = job_id
        self._phase = ""
        self._next = 0.0

    async def note(self, progress: Progress) -> None:
        """Raises JobEnded once the job does not run any more: somebody has cancelled it, here or elsewhere."""
        if not await jobs.is_running(self._core.db, self._job_id):
            raise JobEnded
        if progress.phase == self._phase and time.monotonic() < self._next:
            return
        self._phase, self._next = progress.phase, time.monotonic() + PROGRESS_SECONDS

        async def body(tx: Transaction) -> None:
            await jobs.advance(tx, self._job_id, progress.phase, progress.done, progress.total)

        await self._core.db.write(body)


async def _tell(tx: Transaction, registry_id: str, job_id: str) -> None:
    """A collection has ended, whichever way."""
    job = await jobs.by_id(tx, registry_id, job_id)
    if job is not None:
        counts = {"blobs_deleted": job.blobs_deleted, "manifests_deleted": job.manifests_deleted}
        more = {"status": str(job.status), "bytes_freed": job.bytes_freed, **counts, "error": job.error}
        by = Actor(job.cancelled_by or job.started_by or SERVER.subject)
        await events.of_registry(tx, EventType.COLLECTED, registry_id, by, reference=job_id, more=more)


async def _ready(tx: Transaction, registry_id: str) -> None:
    registry = await registries.by_id(tx, registry_id)
    if registry is None:
        raise RegistryError(ErrorCode.NOT_FOUND)
    if registry.status is not Status.ACTIVE:
        raise RegistryError(ErrorCode.NOT_READY)


def _reason(error: Exception) -> str:
    """For people who may not see the log: no path, no statement."""
    match error:
        case StoreFailed():
            return "the store failed; run the collection again once the disk is well"
        case DatabaseFailed():
            return "the catalog failed; run the collection again once the disk is well"
        case _:
            return "internal error; the server's log has the job's id"
