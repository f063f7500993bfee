"""Images and their tags as people see them: figures of a page in one statement, whatever it holds.

An image is there while it has a tag. A blob that two tags or two platforms share counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from regserver.storage.catalog import policies
from regserver.storage.catalog.registries import escape_like
from regserver.storage.sql.port import Reader, Transaction


@dataclass(frozen=True, slots=True)
class ImageRow:
    """``size_bytes``: the distinct blobs linked in the image, and its manifests. ``last_pushed`` in milliseconds."""

    name: str
    tag_count: int
    size_bytes: int
    last_pushed: int


@dataclass(frozen=True, slots=True)
class TagRow:
    """``size_bytes``: the manifest, what it lists, and their blobs, each once. ``pushed_at`` in milliseconds."""

    name: str
    digest: str
    media_type: str
    artifact_type: str | None
    size_bytes: int
    pushed_at: int


@dataclass(frozen=True, slots=True)
class NameFilter:
    """``name`` exactly, ``containing`` anywhere in it in either case; None does not filter."""

    name: str | None = None
    containing: str | None = None

    @property
    def pattern(self) -> str:
        return f"%{escape_like(self.containing.lower())}%" if self.containing else "%"


class ImageSort(StrEnum):
    NAME = "name"
    NAME_DESC = "-name"
    LAST_PUSHED = "last_pushed"
    LAST_PUSHED_DESC = "-last_pushed"
    TAG_COUNT = "tag_count"
    TAG_COUNT_DESC = "-tag_count"
    SIZE_BYTES = "size_bytes"
    SIZE_BYTES_DESC = "-size_bytes"


class TagSort(StrEnum):
    NAME = "name"
    NAME_DESC = "-name"
    PUSHED_AT = "pushed_at"
    PUSHED_AT_DESC = "-pushed_at"


_LAST_PUSHED = "(SELECT max(t.updated_at) FROM tags AS t WHERE t.repository_id = <image>.id)"

# The latest push is looked up for the page alone, unless it is that which orders it.
_IMAGES = """
WITH tagged AS (
    SELECT p.id, p.name, p.tag_count, p.size_bytes FROM repositories AS p
    WHERE p.registry_id = $1 AND p.tag_count > 0 AND p.name = COALESCE($2, p.name) AND p.name LIKE $3 ESCAPE '!'
), page AS (
    SELECT id, name, tag_count, size_bytes FROM tagged ORDER BY <order> LIMIT $4 OFFSET $5
)
SELECT counted.n, page.name, tag_count, size_bytes, <last>
FROM (SELECT count(*) AS n FROM tagged) AS counted LEFT JOIN page ON 1 = 1 ORDER BY <final>
"""
_IMAGE_ORDERS = {
    ImageSort.NAME: "<image>.name",
    ImageSort.NAME_DESC: "<image>.name DESC",
    ImageSort.LAST_PUSHED: "<last>, <image>.name",
    ImageSort.LAST_PUSHED_DESC: "<last> DESC, <image>.name",
    ImageSort.TAG_COUNT: "<image>.tag_count, <image>.name",
    ImageSort.TAG_COUNT_DESC: "<image>.tag_count DESC, <image>.name",
    ImageSort.SIZE_BYTES: "<image>.size_bytes, <image>.name",
    ImageSort.SIZE_BYTES_DESC: "<image>.size_bytes DESC, <image>.name",
}


def _images_statement(order: str) -> str:
    inner = order.replace("<last>", _LAST_PUSHED).replace("<image>", "tagged")
    final = order.replace("<last>", _LAST_PUSHED).replace("<image>", "page")
    last = _LAST_PUSHED.replace("<image>", "page")
    return _IMAGES.replace("<order>", inner).replace("<final>", final).replace("<last>", last)


_IMAGE_PAGES = {sort: _images_statement(order) for sort, order in _IMAGE_ORDERS.items()}


async def page(
    reader: Reader, registry_id: str, chosen: NameFilter, sort: ImageSort, limit: int, offset: int
) -> tuple[list[ImageRow], int]:
    """One page of a registry's images, and how many there are on all pages."""
    rows = await reader.fetch(_IMAGE_PAGES[sort], registry_id, chosen.name, chosen.pattern, limit, offset)
    return [ImageRow(*row[1:]) for row in rows if row[1] is not None], rows[0][0]


# holds: what each tag of the page reaches through indexes, once. UNION drops repetitions, so a cycle ends too.
_TAGS = """
WITH RECURSIVE image AS (
    SELECT id FROM repositories WHERE registry_id = $1 AND name = $2
), chosen AS (
    SELECT t.repository_id, t.name, t.digest, t.updated_at AS pushed_at
    FROM tags AS t JOIN image ON image.id = t.repository_id
    WHERE t.name = COALESCE($3, t.name) AND lower(t.name) LIKE $4 ESCAPE '!'
), page AS (
    SELECT repository_id, name, digest, pushed_at FROM chosen ORDER BY <order> LIMIT $5 OFFSET $6
), holds (repository_id, tag, digest) AS (
    SELECT repository_id, name, digest FROM page
    UNION
    SELECT h.repository_id, h.tag, c.child FROM holds AS h
    JOIN manifest_children AS c ON c.repository_id = h.repository_id AND c.parent = h.digest
), manifest_bytes AS (
    SELECT h.tag, CAST(sum(m.size) AS BIGINT) AS size FROM holds AS h
    JOIN manifests AS m ON m.repository_id = h.repository_id AND m.digest = h.digest GROUP BY h.tag
), tag_blobs AS (
    SELECT DISTINCT h.tag, e.digest FROM holds AS h
    JOIN manifest_blobs AS e ON e.repository_id = h.repository_id AND e.manifest = h.digest
), blob_bytes AS (
    SELECT tag_blobs.tag, CAST(sum(b.size) AS BIGINT) AS size
    FROM tag_blobs JOIN blobs AS b ON b.digest = tag_blobs.digest
    GROUP BY tag_blobs.tag
)
SELECT counted.n, page.name, page.digest, top.media_type, top.artifact_type,
       manifest_bytes.size + COALESCE(blob_bytes.size, 0), page.pushed_at
FROM (SELECT count(*) AS n FROM chosen) AS counted
LEFT JOIN page ON 1 = 1
LEFT JOIN manifests AS top ON top.repository_id = page.repository_id AND top.digest = page.digest
LEFT JOIN manifest_bytes ON manifest_bytes.tag = page.name
LEFT JOIN blob_bytes ON blob_bytes.tag = page.name
ORDER BY <final>
"""
_TAG_ORDERS = {
    TagSort.NAME: "<tag>.name",
    TagSort.NAME_DESC: "<tag>.name DESC",
    TagSort.PUSHED_AT: "<tag>.pushed_at, <tag>.name",
    TagSort.PUSHED_AT_DESC: "<tag>.pushed_at DESC, <tag>.name",
}
_TAG_PAGES = {
    sort: _TAGS.replace("<order>", order.replace("<tag>", "chosen")).replace("<final>", order.replace("<tag>", "page"))
    for sort, order in _TAG_ORDERS.items()
}


async def tags(
    reader: Reader, registry_id: str, image: str, chosen: NameFilter, sort: TagSort, limit: int, offset: int
) -> tuple[list[TagRow], int]:
    """One page of an image's tags, and how many there are on all pages."""
    rows = await reader.fetch(_TAG_PAGES[sort], registry_id, image, chosen.name, chosen.pattern, limit, offset)
    return [TagRow(*row[1:]) for row in rows if row[1] is not None], rows[0][0]


_EXISTS = """
SELECT EXISTS (SELECT 1 FROM repositories AS p WHERE p.registry_id = $1 AND p.name = $2 AND p.tag_count > 0)
"""


async def exists(reader: Reader, registry_id: str, image: str) -> bool:
    """Whether the image has a tag."""
    return bool((await reader.fetch(_EXISTS, registry_id, image))[0][0])


_RELEASE_ALL = """
UPDATE manifests SET released_epoch = $2
WHERE repository_id = $1 AND digest IN (SELECT digest FROM tags WHERE repository_id = $1)
"""
_EVENTS = """
INSERT INTO tag_events (repository_id, name, digest, subject, at, epoch)
SELECT repository_id, name, NULL, $2, $3, $4 FROM tags WHERE repository_id = $1 ORDER BY name
"""
_UNTAG_ALL = "DELETE FROM tags WHERE repository_id = $1"
_UNCOUNTED = "UPDATE repositories SET tag_count = 0 WHERE id = $1"


async def untag_all(tx: Transaction, repository_id: int, subject: str, *, now: int, epoch: int) -> int:
    """Deletes every tag of an image with its event; returns how many. No manifest of it has a tag after this.

    Raises RegistryError DENIED where one of them is immutable.
    """
    await policies.require_movable(tx, repository_id)
    await tx.execute(_RELEASE_ALL, repository_id, epoch)
    await tx.execute(_EVENTS, repository_id, subject, now, epoch)
    await tx.execute(_UNCOUNTED, repository_id)
    return await tx.execute(_UNTAG_ALL, repository_id)
