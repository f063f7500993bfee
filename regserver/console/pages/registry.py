"""One registry: its images, its settings and policy, its audit log."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.config import GIB
from regserver.console import links
from regserver.console.pages.registries import quota_bytes
from regserver.console.visit import Visit, see_other
from regserver.content.audit import Audit
from regserver.content.images import Images
from regserver.content.registries import Changes
from regserver.content.retention import Retentions
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Access
from regserver.model.ids import is_id
from regserver.model.policy import MAX_PATTERNS, is_pattern
from regserver.storage.catalog.audit import PREFIX, EventFilter
from regserver.storage.catalog.images import ImageSort, NameFilter

PER_PAGE = 50
MAX_KEPT, MAX_DAYS = 100_000, 3650
SHOWN_FATES = 200
ORDERS = {
    "name": (ImageSort.NAME, ImageSort.NAME_DESC),
    "size": (ImageSort.SIZE_BYTES, ImageSort.SIZE_BYTES_DESC),
    "tags": (ImageSort.TAG_COUNT, ImageSort.TAG_COUNT_DESC),
    "pushed": (ImageSort.LAST_PUSHED, ImageSort.LAST_PUSHED_DESC),
}


async def frame(visit: Visit, tab: str) -> dict[str, Any]:
    """What stands above every page of a registry. Raises RegistryError NOT_FOUND."""
    figures = await visit.services.registries.figures(visit.registry_id)
    own = figures.row.quota_bytes
    return {
        "registry": figures.row,
        "image_count": figures.image_count,
        "quota": own if own is not None else visit.services.settings.default_quota_bytes,
        "tab": tab,
        "may_write": visit.may(Access.API_WRITE, visit.registry_id),
        "may_see_secrets": visit.may(Access.API_SECRET, visit.registry_id),
    }


async def show(visit: Visit) -> web.Response:
    """The images."""
    top = await frame(visit, "images")
    chosen, number = visit.asked("q"), visit.number("page")
    sort = visit.asked("sort", "-pushed")
    order = ORDERS.get(sort.removeprefix("-"), ORDERS["pushed"])[sort.startswith("-")]
    rows, total = await Images(visit.services.core).page(
        visit.registry_id, NameFilter(None, chosen or None), order, PER_PAGE, (number - 1) * PER_PAGE
    )
    return visit.page(
        "registry.html",
        **top,
        rows=rows,
        largest=max((row.size_bytes for row in rows), default=0),
        total=total,
        number=number,
        pages=-(-total // PER_PAGE),
        sort=sort,
        chosen=chosen,
    )


async def settings(visit: Visit) -> web.Response:
    return await _settings(visit)


async def _settings(visit: Visit, *, fault: str = "", status: int = 200, **more: Any) -> web.Response:
    top = await frame(visit, "settings")
    policy = await visit.services.registries.policy(visit.registry_id)
    row, form = top["registry"], visit.form
    quota = "" if row.quota_bytes is None else f"{row.quota_bytes / GIB:.9f}".rstrip("0").rstrip(".")
    document = policy.document
    immutable, retention = document["immutable_tags"] or {}, document["retention"] or {}
    fields = {
        "quota": quota,
        "immutable": " ".join(immutable.get("patterns", [])),
        "except": " ".join(immutable.get("except", [])),
        "keep_last": retention.get("keep_last") or "",
        "keep_days": retention.get("keep_days") or "",
        "keep_tags": " ".join(retention.get("keep_tags", [])),
    }
    typed = {name: form.get(name, value) for name, value in fields.items()}
    keeps = policy.keep_untagged if not form else "keep_untagged" in form
    public = row.public if "quota" not in form else "public" in form
    values = {"fates": None, "fate_total": 0, **more}
    return visit.page(
        "settings.html", status=status, **top, **values, fields=typed, keeps=keeps, public=public, fault=fault
    )


async def save(visit: Visit) -> web.Response:
    """What the form says. ``seen`` is the state that the form was made from: nobody overwrites what he has not seen."""
    try:
        if "quota" in visit.form:
            changes = Changes(public="public" in visit.form, quota_bytes=quota_bytes(visit.form["quota"]))
        else:
            changes = Changes(policy=_policy(visit))
        seen = visit.form.get("seen") or None
        await visit.services.registries.update(visit.registry_id, changes, seen, by=visit.caller.actor)
    except RegistryError as refused:
        return await _settings(visit, fault=_fault(refused), status=refused.code.status)
    return see_other(links.registry(visit.registry_id, "settings", said="settings-saved"))


async def try_policy(visit: Visit) -> web.Response:
    """What the policy of the form would do now with each tag, and why; nothing is done."""
    try:
        found = await Retentions(visit.services.core).dry_run(visit.registry_id, _policy(visit), changed=True)
    except RegistryError as refused:
        return await _settings(visit, fault=_fault(refused), status=refused.code.status)
    return await _settings(visit, fates=found[:SHOWN_FATES], fate_total=len(found))


def _fault(refused: RegistryError) -> str:
    """Raises it again where the form is not what was refused."""
    if refused.code not in (ErrorCode.VALIDATION_FAILED, ErrorCode.PRECONDITION_FAILED):
        raise refused
    if refused.code is ErrorCode.PRECONDITION_FAILED:
        return "somebody has changed this registry since you opened the page; look again, then save"
    detail = refused.detail
    return "; ".join(one["message"] for one in detail) if isinstance(detail, list) else refused.message


def _policy(visit: Visit) -> dict[str, Any]:
    """The whole policy of the form. Raises RegistryError VALIDATION_FAILED."""
    form = visit.form
    immutable, exceptions = _patterns(form.get("immutable", "")), _patterns(form.get("except", ""))
    last, days = _whole(form.get("keep_last", ""), MAX_KEPT), _whole(form.get("keep_days", ""), MAX_DAYS)
    kept = _patterns(form.get("keep_tags", ""))
    retention = {"keep_last": last, "keep_days": days, "keep_tags": kept} if last or days or kept else None
    return {
        "immutable_tags": {"patterns": immutable, "except": exceptions} if immutable or exceptions else None,
        "retention": retention,
        "keep_untagged": "keep_untagged" in form,
    }


def _patterns(text: str) -> list[str]:
    found = text.replace(",", " ").split()
    wrong = next((one for one in found if not is_pattern(one)), None)
    if wrong is not None or len(found) > MAX_PATTERNS:
        message = f"{wrong} is no pattern of tags" if wrong else f"at most {MAX_PATTERNS} patterns can be given"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)
    return found


def _whole(text: str, most: int) -> int | None:
    if not text.strip():
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=f"{text[:20]} is no whole number from 1 to {most:,}")
    return int(text)


async def delete(visit: Visit) -> web.Response:
    """Only who types its name deletes a registry that holds images."""
    row = await visit.registry()
    if visit.form.get("name", "").strip() != row.name:
        return await _settings(visit, fault=f"type {row.name} to delete it; nothing was deleted", status=422)
    await visit.services.registries.delete(row.id, force=True, by=visit.caller.actor)
    return see_other(links.home(said="registry-deleted"))


async def audit(visit: Visit) -> web.Response:
    top = await frame(visit, "audit")
    before = visit.asked("before") or None
    if before is not None and not is_id(PREFIX, before):
        raise RegistryError(ErrorCode.NOT_FOUND)
    chosen = visit.asked("q")[:255]
    wanted = EventFilter(registry_id=visit.registry_id, before=before, containing=chosen or None)
    found = await Audit(visit.services.core).page(wanted, PER_PAGE, 0)
    return visit.page("audit.html", **top, events=found.events, following=found.following, chosen=chosen)
