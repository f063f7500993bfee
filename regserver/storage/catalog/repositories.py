"""Repositories: an image name inside a registry. A row exists from the first push on."""

from __future__ import annotations

from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.storage.sql.port import Reader, Row, Transaction

FIND = """
SELECT r.id FROM repositories r JOIN registries g ON g.id = r.registry_id
WHERE r.registry_id = $1 AND r.name = $2 AND g.status = 'active'
"""


async def find(reader: Reader, target: Target) -> int | None:
    """The row's id, while its registry is active."""
    rows = await reader.fetch(FIND, target.registry_id, target.name.image)
    return rows[0][0] if rows else None


INSERT = """
INSERT INTO repositories (registry_id, name) SELECT g.id, $2 FROM registries g WHERE g.id = $1 AND g.status = 'active'
RETURNING id
"""


async def ensure(tx: Transaction, target: Target) -> int:
    """The row's id, made if need be. Raises NAME_UNKNOWN when the registry is no longer there to push to."""
    found = await find(tx, target)
    if found is not None:
        return found
    rows = await tx.fetch(INSERT, target.registry_id, target.name.image)
    if not rows:
        raise RegistryError(ErrorCode.NAME_UNKNOWN, {"name": str(target.name)})
    return int(rows[0][0])


VISIBLE = """
SELECT g.name, r.name, g.public FROM registries g JOIN repositories r ON r.registry_id = g.id
WHERE g.status = 'active' AND (g.name, r.name) > ($1, $2) AND ($3 = 1 OR g.public = 1 OR g.id = $4)
  AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id)
ORDER BY g.name, r.name LIMIT $5
"""


async def visible(reader: Reader, everything: bool, registry_id: str, after: tuple[str, str], limit: int) -> list[Row]:
    """(registry, image, whether it is public) of repositories that hold a manifest: all of them, or the public ones and
    one registry's."""
    return await reader.fetch(VISIBLE, after[0], after[1], int(everything), registry_id, limit)


IN_REGISTRY = "SELECT id FROM repositories WHERE registry_id = $1 ORDER BY id"


async def in_registry(reader: Reader, registry_id: str) -> list[int]:
    return [row[0] for row in await reader.fetch(IN_REGISTRY, registry_id)]
