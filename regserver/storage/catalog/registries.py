"""Registries: the tenants. A row that is ``deleting`` is out of reach of every reader but the purge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from regserver.storage.sql.port import Reader, Row, Transaction


class Status(StrEnum):
    """``creating`` → ``active`` → ``deleting``, or ``error`` with a message."""

    CREATING = "creating"
    ACTIVE = "active"
    ERROR = "error"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """A registry. Sizes in bytes, times in milliseconds; ``quota_bytes`` None is the server's default.

    ``used_bytes``: every distinct blob linked in it once, and its manifests.
    """

    id: str
    name: str
    status: Status
    status_message: str | None
    public: bool
    quota_bytes: int | None
    used_bytes: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class RegistryFigures:
    """A registry, and how many of its images have a tag."""

    row: RegistryRow
    image_count: int


@dataclass(frozen=True, slots=True)
class RegistryFilter:
    """``name`` exactly, ``containing`` anywhere in it in either case, one of ``ids``; None does not filter."""

    name: str | None = None
    containing: str | None = None
    ids: frozenset[str] | None = None


class RegistrySort(StrEnum):
    """Every order ends in the id, so it is total."""

    CREATED_AT = "created_at"
    CREATED_AT_DESC = "-created_at"
    NAME = "name"
    NAME_DESC = "-name"
    STORAGE_BYTES = "storage_bytes"
    STORAGE_BYTES_DESC = "-storage_bytes"
    IMAGE_COUNT = "image_count"
    IMAGE_COUNT_DESC = "-image_count"


@lru_cache(maxsize=1024)
def _row(values: Row) -> RegistryRow:
    """Remembered by the row itself: what is read anew each time is the row."""
    identity, name, status, message, public, quota, used, created, updated = values
    return RegistryRow(identity, name, Status(status), message, bool(public), quota, used, created, updated)


# The first condition repeats the index's own, or SQLite does not use it.
_BY_NAME = """
SELECT id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at
FROM registries WHERE name = $1 AND status <> 'deleting' AND status = 'active'
"""


async def by_name(reader: Reader, name: str) -> RegistryRow | None:
    """The active registry of that name: what /v2 may touch."""
    rows = await reader.fetch(_BY_NAME, name)
    return _row(rows[0]) if rows else None


_BY_ID = """
SELECT id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at
FROM registries WHERE id = $1 AND status <> 'deleting'
"""


async def by_id(reader: Reader, registry_id: str) -> RegistryRow | None:
    """The registry, in any status but ``deleting``."""
    rows = await reader.fetch(_BY_ID, registry_id)
    return _row(rows[0]) if rows else None


_IMAGE_COUNT = "(SELECT count(*) FROM repositories AS p WHERE p.registry_id = <registry>.id AND p.tag_count > 0)"
_FIGURES = """
SELECT id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at, <count>
FROM registries WHERE id = $1 AND status <> 'deleting'
""".replace("<count>", _IMAGE_COUNT.replace("<registry>", "registries"))


async def figures(reader: Reader, registry_id: str) -> RegistryFigures | None:
    rows = await reader.fetch(_FIGURES, registry_id)
    return RegistryFigures(_row(rows[0][:-1]), rows[0][-1]) if rows else None


# One statement, so that total and page come from one state; a page past the end is one row of NULLs beside the total.
# Images are counted for the page alone, unless it is they that order it.
_PAGE = """
WITH matching AS (
    SELECT id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at
    FROM registries WHERE status <> 'deleting' AND name = COALESCE($1, name) AND name LIKE $2 ESCAPE '!'
    AND ($5 = '' OR $5 LIKE '%,' || id || ',%')
), page AS (
    SELECT * FROM matching ORDER BY <order> LIMIT $3 OFFSET $4
)
SELECT total.n, page.id, page.name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at,
       <count>
FROM (SELECT count(*) AS n FROM matching) AS total LEFT JOIN page ON 1 = 1 ORDER BY <final>
"""
_ORDERS = {
    RegistrySort.CREATED_AT: "<registry>.created_at, <registry>.id",
    RegistrySort.CREATED_AT_DESC: "<registry>.created_at DESC, <registry>.id DESC",
    RegistrySort.NAME: "<registry>.name, <registry>.id",
    RegistrySort.NAME_DESC: "<registry>.name DESC, <registry>.id DESC",
    RegistrySort.STORAGE_BYTES: "<registry>.used_bytes, <registry>.id",
    RegistrySort.STORAGE_BYTES_DESC: "<registry>.used_bytes DESC, <registry>.id DESC",
    RegistrySort.IMAGE_COUNT: f"{_IMAGE_COUNT}, <registry>.id",
    RegistrySort.IMAGE_COUNT_DESC: f"{_IMAGE_COUNT} DESC, <registry>.id DESC",
}


def _page_statement(order: str) -> str:
    inner, final = order.replace("<registry>", "matching"), order.replace("<registry>", "page")
    count = _IMAGE_COUNT.replace("<registry>", "page")
    return _PAGE.replace("<order>", inner).replace("<final>", final).replace("<count>", count)


_PAGES = {sort: _page_statement(order) for sort, order in _ORDERS.items()}


async def page(
    reader: Reader, chosen: RegistryFilter, sort: RegistrySort, limit: int, offset: int
) -> tuple[list[RegistryFigures], int]:
    """One page, and how many there are on all pages."""
    pattern = f"%{escape_like(chosen.containing.lower())}%" if chosen.containing else "%"
    ids = "" if chosen.ids is None else f",{','.join(sorted(chosen.ids))},"
    rows = await reader.fetch(_PAGES[sort], chosen.name, pattern, limit, offset, ids)
    return [RegistryFigures(_row(row[1:-1]), row[-1]) for row in rows if row[1] is not None], rows[0][0]


def escape_like(text: str) -> str:
    """The text as a LIKE pattern that means itself, with ``ESCAPE '!'``."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


_INSERT = """
INSERT INTO registries (id, name, status, public, quota_bytes, created_at, updated_at, collected_at)
VALUES ($1, $2, $3, $4, $5, $6, $6, $6)
ON CONFLICT (name) WHERE status <> 'deleting' DO NOTHING
RETURNING id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at
"""


async def insert(
    tx: Transaction, registry_id: str, name: str, *, status: Status, public: bool, quota_bytes: int | None, now: int
) -> RegistryRow | None:
    """None where the name is taken by a registry that is not ``deleting``."""
    rows = await tx.fetch(_INSERT, registry_id, name, str(status), int(public), quota_bytes, now)
    return _row(rows[0]) if rows else None


_ACTIVATE = "UPDATE registries SET status = 'active' WHERE id = $1 AND status = 'creating'"


async def activate(tx: Transaction, registry_id: str) -> None:
    """``creating`` → ``active``; from any other status nothing happens, so it may be repeated."""
    await tx.execute(_ACTIVATE, registry_id)


_UPDATE = """
UPDATE registries SET public = $2, quota_bytes = $3, updated_at = $4 WHERE id = $1 AND status <> 'deleting'
RETURNING id, name, status, status_message, public, quota_bytes, used_bytes, created_at, updated_at
"""


async def update(
    tx: Transaction, registry_id: str, *, public: bool, quota_bytes: int | None, now: int
) -> RegistryRow | None:
    rows = await tx.fetch(_UPDATE, registry_id, int(public), quota_bytes, now)
    return _row(rows[0]) if rows else None


_MARK_DELETING = "UPDATE registries SET status = 'deleting', updated_at = $2 WHERE id = $1 AND status <> 'deleting'"


async def mark_deleting(tx: Transaction, registry_id: str, now: int) -> bool:
    """Puts it out of reach and frees its name. False: it was gone already."""
    return await tx.execute(_MARK_DELETING, registry_id, now) == 1


_HAS_TAGS = "SELECT EXISTS (SELECT 1 FROM repositories AS p WHERE p.registry_id = $1 AND p.tag_count > 0)"


async def has_tags(reader: Reader, registry_id: str) -> bool:
    """Whether it is not empty: open uploads and untagged rests do not count."""
    return bool((await reader.fetch(_HAS_TAGS, registry_id))[0][0])


_IN_STATUS = "SELECT id FROM registries WHERE status = $1 ORDER BY id"


async def in_status(reader: Reader, status: Status) -> list[str]:
    return [row[0] for row in await reader.fetch(_IN_STATUS, str(status))]


_COLLECTED = "UPDATE registries SET collected_at = $2 WHERE id = $1"


async def collected(tx: Transaction, registry_id: str, now: int) -> None:
    """A collection begins: the schedule's next one is an interval away."""
    await tx.execute(_COLLECTED, registry_id, now)


_UNCOLLECTED = """
SELECT id FROM registries WHERE status = 'active' AND (collected_at <= $1 OR collected_at > $2)
ORDER BY collected_at, id LIMIT $3
"""


async def uncollected(reader: Reader, since: int, now: int, limit: int) -> list[str]:
    """Registries whose last collection began at ``since`` or before, the longest ago first; or in a future that a
    clock has taken back."""
    return [row[0] for row in await reader.fetch(_UNCOLLECTED, since, now, limit)]
