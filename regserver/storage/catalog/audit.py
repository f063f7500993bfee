"""The audit log: a line for every change, in the very transaction of the change, so that neither is without the other.
What people watch happen becomes an event in the same breath (``catalog.events``).

Nothing here updates a line. Lines go only by their age, which counts epochs: no clock that jumps deletes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from regserver.model.audit import Actor, AuditAction, AuditResult
from regserver.model.events import OF_ACTION
from regserver.model.ids import id_floor, id_ms, new_id
from regserver.storage.catalog import events
from regserver.storage.catalog.registries import escape_like
from regserver.storage.sql.port import Reader, Transaction

PREFIX = "evt"
TEXT_LENGTH = 255  # characters kept of a text
COUNTED = 10_000  # events that a total counts exactly
SOUGHT = 3_000  # lines that one page looks through for a text, which no index can find: some 2 µs each

_RECORD = """
INSERT INTO audit (id, at, epoch, actor, action, registry_id, registry, image, reference, digest, detail, address,
                   request_id, result)
VALUES ($1, $2, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0), $3, $4, $5,
        (SELECT name FROM registries WHERE id = $5), NULL, $6, NULL, $7, $8, $9, $10)
"""


async def record(
    tx: Transaction,
    actor: Actor,
    action: AuditAction,
    *,
    registry_id: str | None = None,
    reference: str | None = None,
    detail: str | None = None,
    result: AuditResult = AuditResult.OK,
) -> None:
    """What was done to a registry, or to the server. ``reference`` names the thing: a robot, a token, a job."""
    who = (_line(actor.subject), str(action), registry_id)
    what = (_line(reference), _line(detail), _line(actor.address), actor.request_id, str(result))
    event = new_id(PREFIX)
    await tx.execute(_RECORD, event, id_ms(event), *who, *what)
    if registry_id is not None and (kind := OF_ACTION.get(action)) is not None:
        await events.of_registry(tx, kind, registry_id, actor, reference=reference)


_RECORD_IMAGE = """
INSERT INTO audit (id, at, epoch, actor, action, registry_id, registry, image, reference, digest, detail, address,
                   request_id, result)
SELECT $1, $2, COALESCE((SELECT epoch FROM clock WHERE id = 1), 0), $3, $4, r.id, r.name, p.name, $6, $7, $8, $9, $10,
       'ok'
FROM repositories AS p JOIN registries AS r ON r.id = p.registry_id WHERE p.id = $5
"""


async def record_image(
    tx: Transaction,
    actor: Actor,
    action: AuditAction,
    repository_id: int,
    *,
    reference: str | None = None,
    digest: str | None = None,
    detail: str | None = None,
) -> None:
    """What was done in a repository. ``reference`` is a tag."""
    who = (_line(actor.subject), str(action), repository_id)
    what = (_line(reference), digest, _line(detail), _line(actor.address), actor.request_id)
    event = new_id(PREFIX)
    await tx.execute(_RECORD_IMAGE, event, id_ms(event), *who, *what)
    if (kind := OF_ACTION.get(action)) is not None:
        more = {"detail": detail} if detail else None
        await events.of_image(tx, kind, repository_id, actor, reference=reference, digest=digest, more=more)


def _line(text: str | None) -> str | None:
    """On one line, printable, and of a bounded length, whatever came in."""
    if text is None or (len(text) <= TEXT_LENGTH and text.isprintable()):
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:TEXT_LENGTH])
    return shown[:TEXT_LENGTH]


class EventRow(NamedTuple):
    """A line. ``at`` in milliseconds; what it does not tell of is None."""

    id: str
    at: int
    actor: str
    action: str
    registry_id: str | None
    registry: str | None
    image: str | None
    reference: str | None
    digest: str | None
    detail: str | None
    address: str
    request_id: str
    result: str


@dataclass(frozen=True, slots=True)
class EventFilter:
    """``since`` included, ``until`` not, in milliseconds; ``before`` an event's id; ``containing`` in either case.

    ``visible``: ids of registries; an event of no registry is in none. None does not filter.
    """

    registry_id: str | None = None
    registry: str | None = None
    actor: str | None = None
    action: AuditAction | None = None
    since: int | None = None
    until: int | None = None
    before: str | None = None
    containing: str | None = None
    visible: frozenset[str] | None = None


class Lead(Enum):
    """The filter whose index is walked; the others are looked at on the way."""

    REGISTRY_ID = "registry_id"
    REGISTRY = "registry"
    ACTOR = "actor"
    ACTION = "action"
    TIME = "time"


_MATCHING = """
FROM audit WHERE id >= $1 AND id < $2 <lead>
    AND (CAST($3 AS TEXT) IS NULL OR registry_id = $3) AND (CAST($4 AS TEXT) IS NULL OR registry = $4)
    AND (CAST($5 AS TEXT) IS NULL OR actor = $5) AND (CAST($6 AS TEXT) IS NULL OR action = $6)
    AND ($7 = '' OR $7 LIKE '%,' || registry_id || ',%')
    AND ($8 = '' OR LOWER(
        actor || ' ' || COALESCE(registry, '') || ' ' || COALESCE(image, '') || ' ' || COALESCE(reference, '') || ' ' ||
        COALESCE(digest, '') || ' ' || COALESCE(detail, '') || ' ' || address || ' ' || request_id
    ) LIKE $8 ESCAPE '!')
"""
_PAGE = """
SELECT id, at, actor, action, registry_id, registry, image, reference, digest, detail, address, request_id, result
<matching> ORDER BY id DESC LIMIT $9 OFFSET $10
"""
_COUNT = "SELECT count(*) FROM (SELECT id <matching> LIMIT $9) AS counted"
_CONDITIONS = {
    Lead.REGISTRY_ID: "AND registry_id = $3",
    Lead.REGISTRY: "AND registry = $4",
    Lead.ACTOR: "AND actor = $5",
    Lead.ACTION: "AND action = $6",
    Lead.TIME: "",
}
_WHERE = {lead: _MATCHING.replace("<lead>", condition) for lead, condition in _CONDITIONS.items()}
_PAGES = {lead: _PAGE.replace("<matching>", where) for lead, where in _WHERE.items()}
_COUNTS = {lead: _COUNT.replace("<matching>", where) for lead, where in _WHERE.items()}
# Where nothing but the lead filters, its index alone tells: ten thousand lines need not be read to be counted.
_LEAD_COUNT = (
    "SELECT count(*) FROM (SELECT id FROM audit WHERE id >= $1 AND id < $2 AND <lead> = $3 LIMIT $4) AS counted"
)
_LEAD_COUNTS: dict[Lead, str] = {
    lead: _LEAD_COUNT.replace("<lead>", str(lead.value)) for lead in Lead if lead is not Lead.TIME
}


_LAST = "SELECT id FROM audit WHERE id >= $1 AND id < $2 AND <lead> = $4 ORDER BY id DESC LIMIT 1 OFFSET $3"
_LAST_OF: dict[Lead, str] = {
    lead: _LAST.replace(" AND <lead> = $4", "") if lead is Lead.TIME else _LAST.replace("<lead>", str(lead.value))
    for lead in Lead
}


_ANY: tuple[Lead, str | None] = (Lead.TIME, None)


class EventPage(NamedTuple):
    """``total``: how many there are, ``before`` aside; ``following``: the id before which the next page begins."""

    events: list[EventRow]
    total: int
    following: str | None


async def page(reader: Reader, chosen: EventFilter, limit: int, offset: int) -> EventPage:
    """The newest first.

    Up to COUNTED the total is exact. Beyond, it is at least as many as it says, and more than these. A page that looks
    for a text looks through SOUGHT lines and leads on from there, whatever it found; its total counts those alone.
    """
    since = id_floor(PREFIX, chosen.since or 0)
    until = f"{PREFIX}_~" if chosen.until is None else id_floor(PREFIX, chosen.until)
    visible = "" if chosen.visible is None else f",{','.join(sorted(chosen.visible))},"
    pattern = f"%{escape_like(chosen.containing.lower())}%" if chosen.containing else ""
    equal = (chosen.registry_id, chosen.registry, chosen.actor, chosen.action and str(chosen.action))
    lead, value = next(((lead, value) for lead, value in zip(Lead, equal, strict=False) if value is not None), _ANY)
    end = until if chosen.before is None else min(until, chosen.before)
    last = await _last_sought(reader, lead, value, since, end) if pattern else None
    since, until = (since, until) if last is None else (last, end)
    rows = await reader.fetch(_PAGES[lead], since, end, *equal, visible, pattern, limit + 1, offset)
    found, more = [EventRow(*row) for row in rows[:limit]], len(rows) > limit
    following = found[-1].id if more else last
    if not more and (chosen.before is None or last is not None) and (rows or not offset):
        return EventPage(found, offset + len(rows), following)  # a last page says how many: no need to look twice
    if sum(part is not None for part in equal) == 1 and not visible and not pattern:
        ((total,),) = await reader.fetch(_LEAD_COUNTS[lead], since, until, value, COUNTED)
    else:
        ((total,),) = await reader.fetch(_COUNTS[lead], since, until, *equal, visible, pattern, COUNTED)
    return EventPage(found, max(total, offset + len(rows)) if total == COUNTED else total, following)


async def _last_sought(reader: Reader, lead: Lead, value: str | None, since: str, end: str) -> str | None:
    """The oldest line that a page looks through; None if it comes to the end of them."""
    given = () if value is None else (value,)
    rows = await reader.fetch(_LAST_OF[lead], since, end, SOUGHT - 1, *given)
    return str(rows[0][0]) if rows else None


OLDEST = "SELECT id, epoch FROM audit ORDER BY id LIMIT $1"
FORGET = "DELETE FROM audit WHERE id = $1"


async def expire(tx: Transaction, before_epoch: int, limit: int) -> int:
    """Forgets the oldest lines past their age, so many at most; returns how many went. Nothing else removes a line."""
    old = [identity for identity, epoch in await tx.fetch(OLDEST, limit) if epoch < before_epoch]
    return sum([await tx.execute(FORGET, identity) for identity in old])
