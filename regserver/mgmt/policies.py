"""A registry's policy as requests and answers hold it, and what its retention would do."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.content.retention import ImageFate, Retentions
from regserver.mgmt import answers, body, paths
from regserver.mgmt.declared import About, Flag, Nullable, Record, Texts, Whole
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import RETENTION_ITEM
from regserver.model.policy import MAX_PATTERN_LENGTH, MAX_PATTERNS, PATTERN, is_pattern
from regserver.model.times import rfc3339
from regserver.web.context import Call

MAX_KEPT = 100_000
MAX_DAYS = 3650


def _pattern(text: str) -> tuple[str, str] | None:
    if is_pattern(text):
        return None
    return "invalid_format", f"must be a glob over tags (* ? [a-z] [!a-z]) of at most {MAX_PATTERN_LENGTH} characters"


_FORM = {"pattern": f"^{PATTERN}$", "maxLength": MAX_PATTERN_LENGTH}
_PATTERNS = Texts(_pattern, 1, MAX_PATTERNS, _FORM)
_ANY_PATTERNS = Texts(_pattern, 0, MAX_PATTERNS, _FORM)
_IMMUTABLE = Record(
    {
        "patterns": About("Tags that cannot be moved or deleted once they are there.", _PATTERNS),
        "except": About("Those among them that can.", Nullable(_ANY_PATTERNS)),
    }
)
_RETENTION = Record(
    {
        "keep_last": About("Of each image, the tags pushed last.", Nullable(Whole(1, MAX_KEPT))),
        "keep_days": About("What was pushed or pulled within so many days.", Nullable(Whole(1, MAX_DAYS))),
        "keep_tags": About("Tags that match.", Nullable(_ANY_PATTERNS)),
    }
)
POLICY = About(
    "What is named here changes, the rest stays; null takes a part away, or all of it. Retention deletes what none of "
    "its rules keeps, and needs keep_last or keep_days.",
    Nullable(
        Record(
            {
                "immutable_tags": Nullable(_IMMUTABLE),
                "retention": Nullable(_RETENTION),
                "keep_untagged": About("A collection leaves manifests that no tag reaches.", Flag()),
            }
        )
    ),
)
_TRY = Record({"policy": POLICY})


@operation(Group.REGISTRIES, "Try retention", items=RETENTION_ITEM, optional_body=_TRY)
async def try_retention(request: web.Request, call: Call) -> web.Response:
    """What retention would do now with each tag, and why; nothing is done. What would go comes first. A ``policy`` in
    the body is tried as if it were set."""
    registry_id, query = paths.registry_id(request), Query(request)
    paging = query.paging()
    query.finish()
    values = await body.optional(request, call, _TRY)
    found = await Retentions(call.services.core).dry_run(registry_id, values.get("policy"), changed="policy" in values)
    rows = [_item(one) for one in found[paging.offset : paging.offset + paging.per_page]]
    return answers.listed(request, rows, len(found), paging)


def _item(one: ImageFate) -> dict[str, Any]:
    tag = one.fate.tag
    return {
        "image": one.image,
        "tag": tag.name,
        "digest": tag.digest,
        "action": "keep" if one.fate.keep else "delete",
        "reason": one.fate.reason,
        "pushed_at": rfc3339(tag.pushed_at),
        "last_pulled": None if tag.pulled_at is None else rfc3339(tag.pulled_at),
    }
