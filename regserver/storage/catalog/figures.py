"""How much there is of everything: for ``/metrics``, off the loop and seldom, as some of it is counted row by row."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader


class Figures(NamedTuple):
    """Rows of the whole catalog, as one snapshot has them. ``used_bytes``: what quotas count, of all registries."""

    registries: int
    repositories: int
    tags: int
    used_bytes: int
    uploads: int
    blob_leases: int
    manifest_leases: int
    trash: int
    running_jobs: int


_FIGURES = """
SELECT (SELECT count(*) FROM registries WHERE status <> 'deleting'),
       (SELECT count(*) FROM repositories),
       (SELECT CAST(COALESCE(sum(tag_count), 0) AS BIGINT) FROM repositories),
       (SELECT CAST(COALESCE(sum(used_bytes), 0) AS BIGINT) FROM registries),
       (SELECT count(*) FROM uploads),
       (SELECT count(*) FROM blob_leases),
       (SELECT count(*) FROM manifest_leases),
       (SELECT count(*) FROM trash),
       (SELECT count(*) FROM gc_jobs WHERE status = 'running')
FROM clock WHERE id = 1
"""


async def read(reader: Reader) -> Figures:
    """Counts what is not kept as a number: rows in their thousands, not in their millions."""
    rows = await reader.fetch(_FIGURES)
    return Figures(*rows[0])


_BLOBS = "SELECT count(*), CAST(COALESCE(sum(size), 0) AS BIGINT) FROM blobs"


async def blobs(reader: Reader) -> tuple[int, int]:
    """How many blobs there are, and their bytes. Walks them all."""
    rows = await reader.fetch(_BLOBS)
    return int(rows[0][0]), int(rows[0][1])
