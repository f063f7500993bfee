"""Referrers: manifests whose ``subject`` is a digest, whether that digest is here or not (end-12)."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from regserver.storage.sql.port import Reader, Row

PAGE = """
SELECT digest, media_type, size, artifact_type, annotations FROM manifests
WHERE repository_id = $1 AND subject = $2 AND digest > $3 ORDER BY digest LIMIT $4
"""
PAGE_OF_TYPE = """
SELECT digest, media_type, size, artifact_type, annotations FROM manifests
WHERE repository_id = $1 AND subject = $2 AND digest > $3 AND artifact_type = $5 ORDER BY digest LIMIT $4
"""

SIZES = """
SELECT size FROM manifests WHERE repository_id = $1 AND subject = $2 AND digest > $3 AND ($5 = '' OR artifact_type = $5)
ORDER BY digest LIMIT $4
"""


async def fitting(
    reader: Reader, repository_id: int, subject: str, artifact_type: str | None, after: str, limit: int, budget: int
) -> int:
    """How many of the next ``limit`` have at most ``budget`` bytes together, one at the least.

    By the sizes of the manifests: what a descriptor repeats of one, its annotations, is never larger."""
    rows = await reader.fetch(SIZES, repository_id, subject, after, limit, artifact_type or "")
    fitting = sum(total <= budget for total in accumulate(size for (size,) in rows))
    return max(fitting, min(limit, 1)) if fitting < len(rows) else limit


async def page(
    reader: Reader, repository_id: int, subject: str, artifact_type: str | None, after: str, limit: int
) -> list[dict[str, Any]]:
    """Descriptors in the order of their digests."""
    if artifact_type is None:
        rows = await reader.fetch(PAGE, repository_id, subject, after, limit)
    else:
        rows = await reader.fetch(PAGE_OF_TYPE, repository_id, subject, after, limit, artifact_type)
    return [_descriptor(row) for row in rows]


def _descriptor(row: Row) -> dict[str, Any]:
    digest, media_type, size, artifact_type, annotations = row
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    if artifact_type:
        descriptor["artifactType"] = artifact_type
    if annotations:
        descriptor["annotations"] = json.loads(annotations)
    return descriptor
