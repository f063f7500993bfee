"""Events: what happened, in the order of the commits, each in the transaction of what it tells of.

Every insertion goes through ``at_commit``: an id is drawn where nobody else can draw one before this one is committed
or undone. So whoever has read up to an id has read everything before it, and nothing will appear there later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from regserver.model.audit import Actor
from regserver.model.events import EventType
from regserver.model.times import now_ms
from regserver.storage.sql.port import Reader, Transaction

_OF_IMAGE = """
INSERT INTO events (at, epoch, type, registry_id, registry, image, reference, digest, actor, request_id, more)
SELECT $1, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0), $2, r.id, r.name, p.name, $4, $5, $6, $7, $8
FROM repositories AS p JOIN registries AS r ON r.id = p.registry_id WHERE p.id = $3
"""


async def of_image(
    tx: Transaction,
    kind: EventType,
    repository_id: int,
    actor: Actor,
    *,
    reference: str | None = None,
    digest: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Something happened in a repository. ``reference`` is a tag."""
    who = (actor.subject, actor.request_id)
    await tx.at_commit(_OF_IMAGE, now_ms(), str(kind), repository_id, reference, digest, *who, _text(more))


_OF_REGISTRY = """
INSERT INTO events (at, epoch, type, registry_id, registry, image, reference, digest, actor, request_id, more)
SELECT $1, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0), $2, r.id, r.name, $4, $5, NULL, $6, $7, $8
FROM registries AS r WHERE r.id = $3
"""


async def of_registry(
    tx: Transaction,
    kind: EventType,
    registry_id: str,
    actor: Actor,
    *,
    image: str | None = None,
    reference: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Something happened to a registry, or in an ``image`` of it that may have no row yet. ``reference``: a job."""
    who = (actor.subject, actor.request_id)
    await tx.at_commit(_OF_REGISTRY, now_ms(), str(kind), registry_id, image, reference, *who, _text(more))


def _text(more: Mapping[str, Any] | None) -> str | None:
    return json.dumps(more) if more else None


class EventRow(NamedTuple):
    """``at`` in milliseconds; what it does not tell of is None."""

    id: int
    at: int
    type: str
    registry_id: str
    registry: str
    image: str | None
    reference: str | None
    digest: str | None
    actor: str
    request_id: str
    more: str | None


_AFTER = """
SELECT id, at, type, registry_id, registry, image, reference, digest, actor, request_id, more
FROM events WHERE id > $1 ORDER BY id LIMIT $2
"""


async def after(reader: Reader, place: int, limit: int) -> list[EventRow]:
    """What follows an id, the oldest first."""
    return [EventRow(*row) for row in await reader.fetch(_AFTER, place, limit)]


LAST = "SELECT id FROM events ORDER BY id DESC LIMIT 1"


async def last(reader: Reader) -> int:
    """The newest id; 0 while nothing has ever happened, for the newest row is never forgotten."""
    rows = await reader.fetch(LAST)
    return int(rows[0][0]) if rows else 0


OLDEST = "SELECT id, epoch FROM events ORDER BY id LIMIT $1"


async def oldest(reader: Reader) -> int:
    """The oldest id that is kept; 0 where there is none."""
    rows = await reader.fetch(OLDEST, 1)
    return int(rows[0][0]) if rows else 0


FORGET = "DELETE FROM events WHERE id = $1"


async def expire(tx: Transaction, before_epoch: int, most: int, limit: int) -> int:
    """Forgets the oldest past their age, or beyond the latest ``most``; so many at once, and returns how many.

    The newest one stays, whatever its age: it says how far the ids are.
    """
    newest = await last(tx)
    old = [
        identity
        for identity, epoch in await tx.fetch(OLDEST, limit)
        if identity < newest and (epoch < before_epoch or identity <= newest - most)
    ]
    return sum([await tx.execute(FORGET, identity) for identity in old])
