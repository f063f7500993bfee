"""An image: its tags, in the order that somebody wants, their history, and undo."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from regserver.console import links
from regserver.console.pages.registry import frame
from regserver.console.visit import Visit, see_other
from regserver.content.explain import Explain
from regserver.content.images import Images
from regserver.content.inspection import Inspection
from regserver.content.undo import Undo
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.times import now_ms
from regserver.storage.catalog.images import ImageSort, NameFilter, TagRow, TagSort

PER_PAGE = 50
SORTED = 500  # tags pushed last, which are put in an order that no index has
HISTORY = 100
ORDERS = {
    "name": (TagSort.NAME, TagSort.NAME_DESC),
    "pushed": (TagSort.PUSHED_AT, TagSort.PUSHED_AT_DESC),
}
COMPUTED = frozenset({"size", "platform"})
_ABSENT = frozenset({ErrorCode.NAME_UNKNOWN, ErrorCode.MANIFEST_UNKNOWN})


async def show(visit: Visit) -> web.Response:
    top = await frame(visit, "images")
    target = visit.target(top["registry"])
    sort, chosen, number = visit.asked("sort", "-pushed"), visit.asked("q"), visit.number("page")
    images = Images(visit.services.core)
    rows, platforms, total = await _tags(visit, target, NameFilter(None, chosen or None), sort, number)
    ((figures,), _) = await images.page(target.registry_id, NameFilter(name=target.name.image), ImageSort.NAME, 1, 0)
    return visit.page(
        "image.html",
        **top,
        target=target,
        figures=figures,
        rows=rows,
        platforms=platforms,
        total=total,
        largest=max((row.size_bytes for row in rows), default=0),
        number=number,
        pages=-(-total // PER_PAGE),
        sort=sort,
        chosen=chosen,
        sorted_limit=SORTED,
        pulled=await images.last_pulled(target),
        reclaimable=await Explain(visit.services.core).reclaimable(target),
        gone=visit.asked("gone"),
    )


async def _tags(
    visit: Visit, target: Target, chosen: NameFilter, sort: str, number: int
) -> tuple[list[TagRow], dict[str, list[str]], int]:
    """One page of tags, the platforms of each by digest, and how many tags there are."""
    images, inspection = Images(visit.services.core), Inspection(visit.services.core)
    key, start = sort.removeprefix("-"), (number - 1) * PER_PAGE
    if key not in COMPUTED:
        order = ORDERS.get(key, ORDERS["pushed"])[sort.startswith("-")]
        rows, total = await images.tags(target, chosen, order, PER_PAGE, start)
        return rows, await inspection.platforms(target, [row.digest for row in rows]), total
    rows, total = await images.tags(target, chosen, TagSort.PUSHED_AT_DESC, SORTED, 0)
    wanted = rows if key == "platform" else []
    platforms = await inspection.platforms(target, [row.digest for row in wanted])

    def place(row: TagRow) -> Any:
        return (row.size_bytes, row.name) if key == "size" else (platforms.get(row.digest, []), row.name)

    rows = sorted(rows, key=place, reverse=sort.startswith("-"))[start : start + PER_PAGE]
    missing = [row.digest for row in rows if row.digest not in platforms]
    return rows, {**platforms, **await inspection.platforms(target, missing)}, min(total, SORTED)


async def history(visit: Visit) -> web.Response:
    top = await frame(visit, "images")
    target, tag = visit.target(top["registry"]), visit.tag()
    events, total = await Undo(visit.services.core).history(target, tag, HISTORY, 0)
    now, current = now_ms(), events[0].row.digest
    return visit.page(
        "history.html", **top, target=target, tag=str(tag), events=events, total=total, now=now, current=current
    )


async def delete_tag(visit: Visit) -> web.Response:
    """That tag, if it names what the page has shown."""
    registry = await visit.registry()
    target, tag = visit.target(registry, visit.form.get("image", "")), visit.tag()
    try:
        await visit.services.manifests.untag(target, visit.caller, tag, visit.form.get("seen") or None)
    except RegistryError as refused:
        raise RegistryError(ErrorCode.NOT_FOUND) if refused.code in _ABSENT else refused from None
    return see_other(await _back(visit, target, said="tag-deleted", gone=str(tag)))


async def restore_tag(visit: Visit) -> web.Response:
    registry = await visit.registry()
    target, tag = visit.target(registry, visit.form.get("image", "")), visit.tag()
    digest = Digest.parse(visit.form["digest"]) if visit.form.get("digest") else None
    await Undo(visit.services.core).restore_tag(target, visit.caller, tag, digest)
    return see_other(links.image(registry.id, target.name.image, said="tag-restored"))


async def delete_image(visit: Visit) -> web.Response:
    registry = await visit.registry()
    target = visit.target(registry, visit.form.get("image", ""))
    await Images(visit.services.core).delete(target, visit.caller)
    return see_other(links.registry(registry.id, said="image-deleted", gone=target.name.image))


async def restore_image(visit: Visit) -> web.Response:
    registry = await visit.registry()
    target = visit.target(registry, visit.form.get("image", ""))
    await Undo(visit.services.core).restore_image(target, visit.caller)
    return see_other(links.image(registry.id, target.name.image, said="image-restored"))


async def _back(visit: Visit, target: Target, **query: str) -> str:
    """To the image, or to its registry where that was its last tag."""
    try:
        await Images(visit.services.core).tags(target, NameFilter(), TagSort.NAME, 1, 0)
    except RegistryError:
        return links.registry(target.registry_id, image=target.name.image, **query)
    return links.image(target.registry_id, target.name.image, **query)
