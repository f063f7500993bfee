"""``/v1/registries/:id/images``, their tags, and deleting either."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from regserver.content.explain import Explain
from regserver.content.images import Images
from regserver.content.tag_detail import TagDetail, TagDetails
from regserver.errors import ErrorCode, RegistryError
from regserver.mgmt import answers, paths
from regserver.mgmt.conditions import if_match
from regserver.mgmt.operations import Group, filtered_by, operation, sorted_by
from regserver.mgmt.query import Query
from regserver.mgmt.resources import IMAGE, IMAGE_SUMMARY, TAG, TAG_SUMMARY
from regserver.model.times import rfc3339
from regserver.storage.catalog.images import ImageRow, ImageSort, NameFilter, TagRow, TagSort
from regserver.web.context import Call

_ABSENT = frozenset({ErrorCode.NAME_UNKNOWN, ErrorCode.MANIFEST_UNKNOWN})


@operation(
    Group.IMAGES,
    "List images",
    items=IMAGE_SUMMARY,
    query=[
        sorted_by(ImageSort, ImageSort.NAME),
        filtered_by("name", "The one of exactly this name."),
        filtered_by("q", "Those that have this in their name."),
    ],
)
async def list_images(request: web.Request, call: Call) -> web.Response:
    query = Query(request)
    paging, sort = query.paging(), query.sort(ImageSort, ImageSort.NAME)
    chosen = NameFilter(query.text("name"), query.text("q"))
    query.finish()
    registry = await call.services.registries.get(paths.registry_id(request))
    rows, total = await Images(call.services.core).page(registry.id, chosen, sort, paging.per_page, paging.offset)
    return answers.listed(request, [_image(row) for row in rows], total, paging)


@operation(Group.IMAGES, "Get an image", data=IMAGE)
async def get_image(request: web.Request, call: Call) -> web.Response:
    """One image, and what deleting it and collecting would give back to the disk."""
    target = await paths.image(request, call, after=0)
    images = Images(call.services.core)
    rows, _ = await images.page(target.registry_id, NameFilter(name=target.name.image), ImageSort.NAME, 1, 0)
    if not rows:
        raise RegistryError(ErrorCode.NOT_FOUND)
    reclaimable = await Explain(call.services.core).reclaimable(target)
    pulled = _moment(await images.last_pulled(target))
    return answers.single({**_image(rows[0]), "last_pulled": pulled, "reclaimable_bytes": reclaimable})


@operation(
    Group.IMAGES,
    "List tags",
    items=TAG_SUMMARY,
    query=[
        sorted_by(TagSort, TagSort.NAME),
        filtered_by("name", "The one of exactly this name."),
        filtered_by("q", "Those that have this in their name."),
    ],
)
async def list_tags(request: web.Request, call: Call) -> web.Response:
    query = Query(request)
    paging, sort = query.paging(), query.sort(TagSort, TagSort.NAME)
    chosen = NameFilter(query.text("name"), query.text("q"))
    query.finish()
    target = await paths.image(request, call, after=1)
    rows, total = await Images(call.services.core).tags(target, chosen, sort, paging.per_page, paging.offset)
    return answers.listed(request, [_tag(row) for row in rows], total, paging)


@operation(Group.IMAGES, "Get a tag", data=TAG, headers=[hdrs.ETAG])
async def get_tag(request: web.Request, call: Call) -> web.Response:
    """One tag with its platforms and what refers to it. The ETag is the digest, as ``If-Match`` of DELETE takes it."""
    target, tag = await paths.image(request, call, after=2), paths.tag(request)
    detail = await TagDetails(call.services.core).get(target, tag)
    reclaimable = await Explain(call.services.core).reclaimable(target, [str(tag)])
    pulled = _moment(await Images(call.services.core).last_pulled(target, tag))
    data = {**_detail(detail), "last_pulled": pulled, "reclaimable_bytes": reclaimable}
    return answers.single(data, headers={hdrs.ETAG: f'"{detail.row.digest}"'})


@operation(Group.IMAGES, "Delete a tag", conditions=[hdrs.IF_MATCH])
async def delete_tag(request: web.Request, call: Call) -> web.Response:
    """That tag and nothing else. ``If-Match`` holds it to the digest that was seen."""
    target, tag, expected = await paths.image(request, call, after=2), paths.tag(request), if_match(request)
    try:
        await call.services.manifests.untag(target, call.caller, tag, expected)
    except RegistryError as error:
        raise RegistryError(ErrorCode.NOT_FOUND) if error.code in _ABSENT else error from None
    return answers.nothing()


@operation(Group.IMAGES, "Delete an image")
async def delete_image(request: web.Request, call: Call) -> web.Response:
    """All tags of the image at once; a collection frees what they held."""
    target = await paths.image(request, call, after=0)
    await Images(call.services.core).delete(target, call.caller)
    return answers.nothing()


def _moment(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


def _image(row: ImageRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "tag_count": row.tag_count,
        "size_bytes": row.size_bytes,
        "last_pushed": rfc3339(row.last_pushed),
    }


def _tag(row: TagRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "digest": row.digest,
        "size_bytes": row.size_bytes,
        "pushed_at": rfc3339(row.pushed_at),
    }


def _detail(detail: TagDetail) -> dict[str, Any]:
    return {
        **_tag(detail.row),
        "media_type": detail.row.media_type,
        "artifact_type": detail.row.artifact_type,
        "platforms": detail.platforms,
        "referrers": [_referrer(descriptor) for descriptor in detail.referrers],
        **({"damaged": True} if detail.damaged else {}),
    }


def _referrer(descriptor: dict[str, Any]) -> dict[str, Any]:
    """What a client listed under the fallback tag is no more than a descriptor: the other fields may be anything."""
    kind, annotations = descriptor.get("artifactType"), descriptor.get("annotations")
    return {
        "digest": descriptor["digest"],
        "media_type": descriptor.get("mediaType"),
        "artifact_type": kind if isinstance(kind, str) else None,
        "size_bytes": descriptor["size"],
        "annotations": annotations if isinstance(annotations, dict) else {},
    }
