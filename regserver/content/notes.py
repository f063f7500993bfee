"""What is told now and then, outside of every request: how far uploads are, and who was refused for a quota.

It is noted in memory and becomes events in batches, each batch a transaction of its own, for there is none that it
could be part of. A crash loses the notes of seconds, and nothing that anybody was promised.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from regserver.model.access import Caller, Target
from regserver.model.audit import SERVER, Actor
from regserver.model.events import EventType
from regserver.model.ids import new_id
from regserver.storage.catalog import events
from regserver.storage.sql.port import Database, Transaction

MOST_UPLOADS = 1000  # followed at a time; of more, the ones that were silent for longest are left out
REPORTED = 50  # uploads in one batch
FIRST_SECONDS = 1.0  # an upload that is over by then is not worth a word
REFUSED_SECONDS = 60.0  # between two events about refusals of one registry
_REFUSALS = 1000


@dataclass(slots=True)
class _Upload:
    """``name`` stands for the session, whose own id would let others write into it."""

    name: str
    registry_id: str
    image: str
    actor: Actor
    began: float
    received: int = 0
    told: int | None = None  # bytes at the last event; None before the first
    ended: bool = False
    complete: bool = False

    def is_due(self, now: float) -> bool:
        if self.ended:
            return self.told is not None
        return self.received != self.told and now - self.began >= FIRST_SECONDS


@dataclass(frozen=True, slots=True)
class _Refusal:
    registry_id: str
    used: int
    limit: int
    needed: int


class Notes:
    """Of this process. What is noted by a transaction's body may come from its thread, and may come twice."""

    def __init__(self) -> None:
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._refusals: deque[_Refusal] = deque(maxlen=_REFUSALS)
        self._refused_at: dict[str, float] = {}

    def received(self, upload_id: str, target: Target, caller: Caller, size: int) -> None:
        """So many bytes of an upload are here."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            image, began = target.name.image, time.monotonic()
            upload = _Upload(new_id("upl"), target.registry_id, image, caller.actor, began)
            self._uploads[upload_id] = upload
            if len(self._uploads) > MOST_UPLOADS:
                self._uploads.popitem(last=False)
        upload.received = size
        self._uploads.move_to_end(upload_id)

    def ended(self, upload_id: str, *, complete: bool) -> None:
        """An upload goes on no more: its blob is here, or never will be."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            return
        if upload.told is None:  # nobody has heard of it
            del self._uploads[upload_id]
        upload.ended, upload.complete = True, complete

    def refused(self, registry_id: str, used: int, limit: int, needed: int) -> None:
        """Something did not fit into a registry's quota."""
        self._refusals.append(_Refusal(registry_id, used, limit, needed))

    async def flush(self, db: Database) -> int:
        """Writes the events that are due; returns how many. Raises DatabaseFailed: then they are lost."""
        uploads, refusals = self._due_uploads(), self._due_refusals()
        if not uploads and not refusals:
            return 0

        async def body(tx: Transaction) -> None:
            for registry_id, image, actor, more in uploads:
                await events.of_registry(tx, EventType.PROGRESS, registry_id, actor, image=image, more=more)
            for refusal in refusals:
                figures = {"used_bytes": refusal.used, "limit_bytes": refusal.limit, "needed_bytes": refusal.needed}
                more = {"reason": "refused", **figures}
                await events.of_registry(tx, EventType.QUOTA, refusal.registry_id, SERVER, more=more)

        await db.write(body)
        return len(uploads) + len(refusals)

    def _due_uploads(self) -> list[tuple[str, str, Actor, dict[str, object]]]:
        now = time.monotonic()
        due = [(key, upload) for key, upload in self._uploads.items() if upload.is_due(now)][:REPORTED]
        for key, upload in due:
            upload.told = upload.received
            if upload.ended:
                del self._uploads[key]
        return [(upload.registry_id, upload.image, upload.actor, _progress(upload)) for _, upload in due]

    def _due_refusals(self) -> list[_Refusal]:
        now, latest = time.monotonic(), dict[str, _Refusal]()
        while self._refusals:
            refusal = self._refusals.popleft()
            latest[refusal.registry_id] = refusal
        self._refused_at = {key: at for key, at in self._refused_at.items() if now - at < REFUSED_SECONDS}
        due = [refusal for key, refusal in latest.items() if key not in self._refused_at]
        self._refused_at |= {refusal.registry_id: now for refusal in due}
        return due


def _progress(upload: _Upload) -> dict[str, object]:
    state = "receiving" if not upload.ended else "complete" if upload.complete else "failed"
    return {"upload": upload.name, "received_bytes": upload.received, "state": state}
