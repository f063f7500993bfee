"""The audit log: a line for every change, in the very transaction of the change, so that neither is without the other.

Nothing here updates a line. Lines go only by their age, which counts epochs: no clock that jumps deletes one.
"""

from __future__ import annotations

from regserver.model.audit import Actor, AuditAction, AuditResult
from regserver.model.ids import id_ms, new_id
from regserver.storage.sql.port import Transaction

TEXT_LENGTH = 255  # characters kept of a text

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
    event = new_id("evt")
    await tx.execute(_RECORD, event, id_ms(event), *who, *what)


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
    event = new_id("evt")
    await tx.execute(_RECORD_IMAGE, event, id_ms(event), *who, *what)


def _line(text: str | None) -> str | None:
    """On one line, printable, and of a bounded length, whatever came in."""
    if text is None or (len(text) <= TEXT_LENGTH and text.isprintable()):
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:TEXT_LENGTH])
    return shown[:TEXT_LENGTH]


OLDEST = "SELECT id, epoch FROM audit ORDER BY id LIMIT $1"
FORGET = "DELETE FROM audit WHERE id = $1"


async def expire(tx: Transaction, before_epoch: int, limit: int) -> int:
    """Forgets the oldest lines past their age, so many at most; returns how many went. Nothing else removes a line."""
    old = [identity for identity, epoch in await tx.fetch(OLDEST, limit) if epoch < before_epoch]
    return sum([await tx.execute(FORGET, identity) for identity in old])
