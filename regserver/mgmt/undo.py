"""A tag's history, and undo: of a tag, and of a deleted image."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.content.undo import Event, Undo
from regserver.errors import ErrorCode, RegistryError
from regserver.mgmt import answers, body, paths
from regserver.mgmt.declared import Record, Text
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import IMAGE_RESTORED, TAG_EVENT, TAG_RESTORED
from regserver.model.digest import FORM, Digest
from regserver.model.times import now_ms, rfc3339
from regserver.web.context import Call


def _digest(text: str) -> tuple[str, str] | None:
    try:
        Digest.parse(text)
    except RegistryError:
        return "invalid_format", "must be a sha256 or sha512 digest"
    return None


_RESTORE = Record({"digest": Text(_digest, {"pattern": f"^{FORM}$"})})
_NOTHING = Record({})


@operation(Group.IMAGES, "List a tag's changes", items=TAG_EVENT)
async def list_history(request: web.Request, call: Call) -> web.Response:
    """Every change of a tag, the newest first, and whether it can be undone."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    target, tag = await paths.image(request, call, after=3), paths.tag(request, before=1)
    events, total = await Undo(call.services.core).history(target, tag, paging.per_page, paging.offset)
    return answers.listed(request, [_event(event) for event in events], total, paging)


@operation(
    Group.IMAGES,
    "Restore a tag",
    data=TAG_RESTORED,
    optional_body=_RESTORE,
    refusals=[ErrorCode.NOT_RESTORABLE],
)
async def restore_tag(request: web.Request, call: Call) -> web.Response:
    """The tag names again what it named before, or the digest of the body, which it must have named once."""
    target, tag = await paths.image(request, call, after=3), paths.tag(request, before=1)
    values = await body.optional(request, call, _RESTORE)
    digest = Digest.parse(values["digest"]) if "digest" in values else None
    restored = await Undo(call.services.core).restore_tag(target, call.caller, tag, digest)
    return answers.single({"name": str(tag), "digest": str(restored)})


@operation(
    Group.IMAGES,
    "Restore a deleted image",
    data=IMAGE_RESTORED,
    optional_body=_NOTHING,
    refusals=[ErrorCode.NOT_RESTORABLE],
)
async def restore_image(request: web.Request, call: Call) -> web.Response:
    """The tags that the latest deletion took, as far as their manifests are still there."""
    target = await paths.image(request, call, after=1)
    await body.optional(request, call, _NOTHING)
    outcome = await Undo(call.services.core).restore_image(target, call.caller)
    return answers.single({"name": target.name.image, "restored": outcome.restored, "failed": outcome.failed})


def _event(event: Event) -> dict[str, Any]:
    row = event.row
    until = None if event.seconds is None else rfc3339(now_ms() + event.seconds * 1000)
    return {
        "action": "deleted" if row.digest is None else "set",
        "digest": row.digest,
        "by": row.subject,
        "at": rfc3339(row.at),
        "restorable": bool(row.present),
        "restorable_until": until,
    }
