"""What the saved copy of the manifests is made of, page by page. Each page is one state, the pages are not one."""

from __future__ import annotations

from typing import NamedTuple

from regserver.storage.sql.port import Reader


class TagRow(NamedTuple):
    repository_id: int
    name: str
    digest: str


class ManifestRow(NamedTuple):
    repository_id: int
    digest: str
    media_type: str
    content: bytes


class ImageRow(NamedTuple):
    repository_id: int
    registry_id: str
    name: str


class RegistryRow(NamedTuple):
    id: str
    name: str
    public: int
    quota_bytes: int | None


_TAGS = """
SELECT repository_id, name, digest FROM tags WHERE (repository_id, name) > ($1, $2)
ORDER BY repository_id, name LIMIT $3
"""


async def tags(reader: Reader, after: tuple[int, str], limit: int) -> list[TagRow]:
    return [TagRow(*row) for row in await reader.fetch(_TAGS, after[0], after[1], limit)]


_MANIFESTS = """
SELECT repository_id, digest, media_type, content FROM manifests WHERE (repository_id, digest) > ($1, $2)
ORDER BY repository_id, digest LIMIT $3
"""


async def manifests(reader: Reader, after: tuple[int, str], limit: int) -> list[ManifestRow]:
    rows = await reader.fetch(_MANIFESTS, after[0], after[1], limit)
    return [ManifestRow(row[0], row[1], row[2], bytes(row[3])) for row in rows]


_IMAGES = "SELECT id, registry_id, name FROM repositories WHERE id > $1 ORDER BY id LIMIT $2"


async def images(reader: Reader, after: int, limit: int) -> list[ImageRow]:
    return [ImageRow(*row) for row in await reader.fetch(_IMAGES, after, limit)]


_REGISTRIES = """
SELECT id, name, public, quota_bytes FROM registries WHERE status = 'active' AND id > $1 ORDER BY id LIMIT $2
"""


async def registries(reader: Reader, after: str, limit: int) -> list[RegistryRow]:
    return [RegistryRow(*row) for row in await reader.fetch(_REGISTRIES, after, limit)]


_NEWEST = "SELECT id FROM audit ORDER BY id DESC LIMIT 1"


async def newest(reader: Reader) -> str:
    """The id of the latest line of the audit log, in which every push and every deletion has one."""
    rows = await reader.fetch(_NEWEST)
    return str(rows[0][0]) if rows else ""
