"""Garbage collection jobs: one row each, at most one running per registry, by a unique index."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from regserver.storage.sql.port import Reader, Row, Transaction


class JobStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobRow:
    """A collection. Times in milliseconds; ``report`` is JSON text; ``done`` of ``total`` steps of the ``phase``.

    ``patient``: it waits out the undo window. ``asked``: how often it was asked for so far.
    """

    id: str
    registry_id: str
    status: JobStatus
    phase: str
    done: int
    total: int
    bytes_freed: int
    blobs_deleted: int
    manifests_deleted: int
    report: str | None
    error: str | None
    started_at: int
    completed_at: int | None
    started_by: str
    cancelled_by: str | None
    patient: bool
    asked: int

    @property
    def is_fresh(self) -> bool:
        """Has no run of it done anything yet?"""
        return self.phase == "waiting"


def _row(values: Row) -> JobRow:
    return JobRow(values[0], values[1], JobStatus(values[2]), *(*values[3:15], bool(values[15]), values[16]))


_INSERT = """
INSERT INTO gc_jobs (id, registry_id, status, phase, started_at, started_by, patient)
VALUES ($1, $2, 'running', 'waiting', $3, $4, $5)
ON CONFLICT (registry_id) WHERE status = 'running' DO NOTHING
RETURNING id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
          started_at, completed_at, started_by, cancelled_by, patient, asked
"""


_RUNNING = """
SELECT id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
       started_at, completed_at, started_by, cancelled_by, patient, asked
FROM gc_jobs WHERE registry_id = $1 AND status = 'running'
"""


async def insert_or_running(
    tx: Transaction, job_id: str, registry_id: str, now: int, *, by: str, patient: bool = False
) -> JobRow:
    """A new running job under this id; or the registry's running one, where the index lets no second one in."""
    rows = await tx.fetch(_INSERT, job_id, registry_id, now, by, int(patient))
    return _row((rows or await tx.fetch(_RUNNING, registry_id))[0])


_ASK = "UPDATE gc_jobs SET asked = asked + 1, patient = 0 WHERE id = $1 AND status = 'running'"


async def ask_again(tx: Transaction, job_id: str) -> None:
    """Somebody wants what is garbage now, and a running job may have passed some of it: it will go round once more."""
    await tx.execute(_ASK, job_id)


_ALL_RUNNING = """
SELECT id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
       started_at, completed_at, started_by, cancelled_by, patient, asked
FROM gc_jobs WHERE status = 'running' ORDER BY id
"""


_IS_RUNNING = "SELECT 1 FROM gc_jobs WHERE id = $1 AND status = 'running'"


async def is_running(reader: Reader, job_id: str) -> bool:
    return bool(await reader.fetch(_IS_RUNNING, job_id))


async def all_running(reader: Reader) -> list[JobRow]:
    return [_row(row) for row in await reader.fetch(_ALL_RUNNING)]


_BY_ID = """
SELECT id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
       started_at, completed_at, started_by, cancelled_by, patient, asked
FROM gc_jobs WHERE id = $1 AND registry_id = $2
"""


async def by_id(reader: Reader, registry_id: str, job_id: str) -> JobRow | None:
    """The job, if it is this registry's."""
    rows = await reader.fetch(_BY_ID, job_id, registry_id)
    return _row(rows[0]) if rows else None


_PAGE = """
WITH page AS (
    SELECT id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
           started_at, completed_at, started_by, cancelled_by, patient, asked
    FROM gc_jobs WHERE registry_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3
)
SELECT counted.n, page.* FROM (SELECT count(*) AS n FROM gc_jobs WHERE registry_id = $1) AS counted
LEFT JOIN page ON 1 = 1 ORDER BY page.id DESC
"""


async def page(reader: Reader, registry_id: str, limit: int, offset: int) -> tuple[list[JobRow], int]:
    """The newest first, and how many there are on all pages."""
    rows = await reader.fetch(_PAGE, registry_id, limit, offset)
    return [_row(row[1:]) for row in rows if row[1] is not None], rows[0][0]


_INSERT_FORECAST = """
INSERT INTO gc_jobs (id, registry_id, status, phase, bytes_freed, blobs_deleted, manifests_deleted, report, found,
                     started_at, completed_at, started_by)
VALUES ($1, $2, 'completed', 'done', $3, $4, $5, '{"dry_run": true}', $6, $7, $8, $9)
RETURNING id, registry_id, status, phase, done, total, bytes_freed, blobs_deleted, manifests_deleted, report, error,
          started_at, completed_at, started_by, cancelled_by, patient, asked
"""


async def insert_forecast(
    tx: Transaction,
    job_id: str,
    registry_id: str,
    counts: tuple[int, int, int],
    found: str,
    times: tuple[int, int],
    by: str,
) -> JobRow:
    """A dry run, which has ended already: (bytes, blobs, manifests) that would go, ``found`` as JSON with ``items``,
    and (begun, ended)."""
    return _row((await tx.fetch(_INSERT_FORECAST, job_id, registry_id, *counts, found, *times, by))[0])


_FOUND = "SELECT found FROM gc_jobs WHERE id = $1 AND registry_id = $2"


async def found(reader: Reader, registry_id: str, job_id: str) -> str | None:
    """What a dry run found, as JSON with ``items``; None for any other job."""
    rows = await reader.fetch(_FOUND, job_id, registry_id)
    return rows[0][0] if rows else None


_ADVANCE = "UPDATE gc_jobs SET phase = $2, done = $3, total = $4 WHERE id = $1 AND status = 'running'"


async def advance(tx: Transaction, job_id: str, phase: str, done: int, total: int) -> None:
    """Notes how far a running job is."""
    await tx.execute(_ADVANCE, job_id, phase, done, total)


_CREDIT_MANIFESTS = "UPDATE gc_jobs SET manifests_deleted = manifests_deleted + $2 WHERE id = $1"


async def credit_manifests(tx: Transaction, job_id: str, count: int) -> None:
    """In the transaction that takes them, so that a job which is begun again counts each of them once."""
    await tx.execute(_CREDIT_MANIFESTS, job_id, count)


_COMPLETE = """
UPDATE gc_jobs SET status = 'completed', phase = 'done', done = total, report = $3, completed_at = $4
WHERE id = $1 AND status = 'running' AND asked = $2
"""


async def complete(tx: Transaction, job_id: str, asked: int, report: str, now: int) -> bool:
    """What it deleted stands there already: it was credited where it was taken.

    False if it does not run any more, or was asked for again since ``asked`` was read.
    """
    return await tx.execute(_COMPLETE, job_id, asked, report, now) == 1


_CANCEL = """
UPDATE gc_jobs SET status = 'failed', error = $2, cancelled_by = $3, completed_at = $4
WHERE id = $1 AND status = 'running'
"""


async def cancel(tx: Transaction, job_id: str, error: str, by: str, now: int) -> bool:
    """Ends a running job in whatever process it runs: before its next batch it finds that out. False if none runs."""
    return await tx.execute(_CANCEL, job_id, error, by, now) == 1


_FORGET = """
DELETE FROM gc_jobs WHERE id IN (
    SELECT id FROM gc_jobs WHERE registry_id = $1 AND started_by = $2 AND status <> 'running'
    ORDER BY id DESC LIMIT 1000 OFFSET $3)
"""


async def forget_old(tx: Transaction, registry_id: str, started_by: str, keep: int) -> None:
    """Forgets the oldest of a registry's ended jobs that so somebody started, but for the latest ``keep``."""
    await tx.execute(_FORGET, registry_id, started_by, keep)


_FAIL = "UPDATE gc_jobs SET status = 'failed', error = $2, completed_at = $3 WHERE id = $1 AND status = 'running'"


async def fail(tx: Transaction, job_id: str, error: str, now: int) -> bool:
    """What was freed before stays noted; the phase says where it failed. False if it does not run any more."""
    return await tx.execute(_FAIL, job_id, error, now) == 1
