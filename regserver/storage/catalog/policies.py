"""Policies of registries, and the one check that holds an immutable tag: ``tags`` and ``images`` make it in the very
transaction that would move or delete one, so no path goes around it (CVE-2026-41888, CVE-2026-31801)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from regserver.errors import ErrorCode, RegistryError
from regserver.model.policy import Policy
from regserver.storage.sql.port import Reader, Transaction

_FIND = "SELECT immutable_tags, retention, keep_untagged FROM policies WHERE registry_id = $1"


async def find(reader: Reader, registry_id: str) -> Policy:
    """A registry's policy; one that was never set does nothing. Raises ValueError for a row that cannot be read."""
    rows = await reader.fetch(_FIND, registry_id)
    if not rows:
        return Policy()
    immutable, retention, keep_untagged = rows[0]
    return _policy({"immutable_tags": immutable, "retention": retention}, bool(keep_untagged))


_SET = """
INSERT INTO policies (registry_id, immutable_tags, retention, keep_untagged, retention_epoch)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (registry_id) DO UPDATE
SET immutable_tags = $2, retention = $3, keep_untagged = $4, retention_epoch = $5
"""


async def put(tx: Transaction, registry_id: str, policy: Policy, epoch: int) -> None:
    """Sets it. Retention counts as run in this epoch: what a slip would delete is there until its next turn."""
    document = policy.document
    texts = [_text(document[part]) for part in ("immutable_tags", "retention")]
    due = None if policy.retention is None else epoch
    await tx.execute(_SET, registry_id, *texts, int(policy.keep_untagged), due)


_IMMUTABLE = """
SELECT p.immutable_tags FROM repositories AS r JOIN policies AS p ON p.registry_id = r.registry_id
WHERE r.id = $1 AND p.immutable_tags IS NOT NULL
"""
_TAGS = "SELECT name FROM tags WHERE repository_id = $1 ORDER BY name"


async def require_movable(tx: Transaction, repository_id: int, names: Iterable[str] | None = None) -> None:
    """Before any of these tags of a repository (None: all of them) is moved or deleted.

    Raises RegistryError DENIED naming the first that is immutable, and the pattern that makes it so.
    """
    rows = await tx.fetch(_IMMUTABLE, repository_id)
    if not rows:
        return
    immutable = _policy({"immutable_tags": rows[0][0], "retention": None}, False).immutable
    for name in names if names is not None else [row[0] for row in await tx.fetch(_TAGS, repository_id)]:
        pattern = immutable and immutable.protects(name)
        if pattern is not None:
            raise RegistryError(
                ErrorCode.DENIED,
                {"reason": "immutable", "tag": name, "pattern": pattern},
                message=f"tag {name} is immutable: it matches {pattern}, and the registry's policy lets no such tag "
                "be moved or deleted",
            )


_DUE = """
SELECT registry_id FROM policies WHERE retention_epoch IS NOT NULL AND retention_epoch <= $1
ORDER BY retention_epoch LIMIT $2
"""


async def due(reader: Reader, latest: int, limit: int) -> list[str]:
    """Registries whose retention last ran in that epoch or before, the longest ago first."""
    return [row[0] for row in await reader.fetch(_DUE, latest, limit)]


_RAN = "UPDATE policies SET retention_epoch = $2 WHERE registry_id = $1 AND retention_epoch < $2"


async def ran(tx: Transaction, registry_id: str, epoch: int) -> None:
    """It ran in that epoch; a policy set since then, or without retention, waits as it was set to."""
    await tx.execute(_RAN, registry_id, epoch)


def _policy(texts: dict[str, str | None], keep_untagged: bool) -> Policy:
    document: dict[str, Any] = {part: text and json.loads(text) for part, text in texts.items()}
    try:
        return Policy.of({**document, "keep_untagged": keep_untagged})
    except (KeyError, TypeError) as error:
        raise ValueError(f"a policy in the catalog cannot be read: {error!r}") from error


def _text(part: dict[str, Any] | None) -> str | None:
    return None if part is None else json.dumps(part)
