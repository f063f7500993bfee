"""``/v1/registries``."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from regserver.config import GIB
from regserver.content.registries import UNCHANGED, Changes
from regserver.errors import ErrorCode
from regserver.mgmt import answers, body, paths
from regserver.mgmt.conditions import etag, if_match
from regserver.mgmt.declared import About, Flag, Nullable, Number, Record, Text
from regserver.mgmt.operations import Group, filtered_by, operation, sorted_by, switched_by
from regserver.mgmt.policies import POLICY
from regserver.mgmt.query import Query
from regserver.mgmt.resources import REGISTRY, REGISTRY_CHANGED, REGISTRY_CREATED, REGISTRY_SUMMARY
from regserver.model.names import COMPONENT, MAX_REGISTRY_LENGTH, RESERVED_REGISTRIES, is_registry_name
from regserver.model.times import rfc3339
from regserver.storage.catalog.registries import RegistryFigures, RegistryFilter, RegistryRow, RegistrySort, Status
from regserver.web.context import Call

MAX_QUOTA_GB = 1_000_000_000


def _name(text: str) -> tuple[str, str] | None:
    if len(text) > MAX_REGISTRY_LENGTH:
        return "too_long", f"must be at most {MAX_REGISTRY_LENGTH} characters"
    if not is_registry_name(text):
        return "invalid_format", "must be lower-case letters and digits, joined by single dots, underscores or dashes"
    if text in RESERVED_REGISTRIES:
        return "reserved", "is a reserved name"
    return None


_NAME = Text(
    _name, {"pattern": f"^{COMPONENT}$", "maxLength": MAX_REGISTRY_LENGTH, "not": {"enum": sorted(RESERVED_REGISTRIES)}}
)
_PUBLIC = About("Anybody may pull.", Flag(), example=False)
_QUOTA = About(
    "The limit in GiB, fractions allowed. null: the server's default.",
    Nullable(Record({"storage_gb": Nullable(Number(0, MAX_QUOTA_GB))}, required=frozenset({"storage_gb"}))),
    {"storage_gb": 50},
)
_CREATE = Record(
    {"name": About("The first part of every image's name.", _NAME, "my-images"), "public": _PUBLIC, "quota": _QUOTA},
    required=frozenset({"name"}),
)
_UPDATE = Record({"public": _PUBLIC, "quota": _QUOTA, "policy": POLICY})


@operation(
    Group.REGISTRIES,
    "List registries",
    items=REGISTRY_SUMMARY,
    query=[
        sorted_by(RegistrySort, RegistrySort.CREATED_AT),
        filtered_by("name", "The one of exactly this name."),
        filtered_by("q", "Those that have this in their name."),
    ],
)
async def list_registries(request: web.Request, call: Call) -> web.Response:
    query = Query(request)
    paging, sort = query.paging(), query.sort(RegistrySort, RegistrySort.CREATED_AT)
    chosen = RegistryFilter(query.text("name"), query.text("q"), call.caller.visible)
    query.finish()
    rows, total = await call.services.registries.page(chosen, sort, paging.per_page, paging.offset)
    host = answers.host(request, call)
    return answers.listed(request, [_summary(figures, host) for figures in rows], total, paging)


@operation(
    Group.REGISTRIES,
    "Create a registry",
    data=REGISTRY_CREATED,
    status=201,
    body=_CREATE,
    headers=[hdrs.LOCATION, hdrs.ETAG],
    refusals=[ErrorCode.ALREADY_EXISTS],
)
async def create_registry(request: web.Request, call: Call) -> web.Response:
    values = await body.required(request, call, _CREATE)
    row = await call.services.registries.create(
        values["name"],
        public=values.get("public", False),
        quota_bytes=_quota_bytes(values.get("quota")),
        by=call.caller.actor,
    )
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/registries/{row.id}", hdrs.ETAG: etag(row)}
    return answers.single(_identity(row, answers.host(request, call)), status=201, headers=headers)


@operation(Group.REGISTRIES, "Get a registry", data=REGISTRY, headers=[hdrs.ETAG])
async def get_registry(request: web.Request, call: Call) -> web.Response:
    figures = await call.services.registries.figures(paths.registry_id(request))
    host, default = answers.host(request, call), call.services.settings.default_quota_bytes
    policy = await call.services.registries.policy(figures.row.id)  # after the ETag: never one that was not shown
    detail = {**_detail(figures, host, default), "policy": policy.document}
    return answers.single(detail, headers={hdrs.ETAG: etag(figures.row)})


@operation(
    Group.REGISTRIES,
    "Change a registry",
    data=REGISTRY_CHANGED,
    body=_UPDATE,
    conditions=[hdrs.IF_MATCH],
    headers=[hdrs.ETAG],
)
async def update_registry(request: web.Request, call: Call) -> web.Response:
    registry_id, expected = paths.registry_id(request), if_match(request)
    values = await body.required(request, call, _UPDATE)
    changes = Changes(
        public=values.get("public", UNCHANGED),
        quota_bytes=_quota_bytes(values["quota"]) if "quota" in values else UNCHANGED,
        policy=values.get("policy", UNCHANGED),
    )
    row = await call.services.registries.update(registry_id, changes, expected, by=call.caller.actor)
    return answers.single({"id": row.id, "name": row.name, "public": row.public}, headers={hdrs.ETAG: etag(row)})


@operation(
    Group.REGISTRIES,
    "Delete a registry",
    query=[switched_by("force", "Also one that is not empty.")],
    conditions=[hdrs.IF_MATCH],
    refusals=[ErrorCode.NOT_EMPTY],
)
async def delete_registry(request: web.Request, call: Call) -> web.Response:
    registry_id, expected, query = paths.registry_id(request), if_match(request), Query(request)
    force = query.switch("force")
    query.finish()
    await call.services.registries.delete(registry_id, force=force, expected=expected, by=call.caller.actor)
    return answers.nothing()


def _quota_bytes(quota: dict[str, Any] | None) -> int | None:
    gigabytes = quota["storage_gb"] if quota else None
    return None if gigabytes is None else round(gigabytes * GIB)


def _identity(row: RegistryRow, host: str) -> dict[str, Any]:
    message = {"status_message": row.status_message} if row.status is Status.ERROR else {}
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        **message,
        "public": row.public,
        "endpoint": f"{host}/{row.name}",
    }


def _summary(figures: RegistryFigures, host: str) -> dict[str, Any]:
    row = figures.row
    return {
        **_identity(row, host),
        "image_count": figures.image_count,
        "storage_bytes": row.used_bytes,
        "created_at": rfc3339(row.created_at),
    }


def _detail(figures: RegistryFigures, host: str, default_quota: int | None) -> dict[str, Any]:
    row = figures.row
    limit = row.quota_bytes if row.quota_bytes is not None else default_quota
    quota = {"storage_gb": None if limit is None else _gib(limit, 9), "used_gb": _gib(row.used_bytes, 3)}
    summary = _summary(figures, host)
    created = summary.pop("created_at")
    return {**summary, "quota": quota, "created_at": created, "updated_at": rfc3339(row.updated_at)}


def _gib(size: int, digits: int) -> int | float:
    """Bytes in GiB; nine digits give back any figure that was set, because a byte is about 10⁻⁹ of one."""
    value = round(size / GIB, digits)
    return int(value) if value.is_integer() else value
