"""All registries: how much each holds, and making one."""

from __future__ import annotations

from aiohttp import web

from regserver.config import GIB
from regserver.console import links
from regserver.console.visit import Visit, see_other
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Access
from regserver.model.names import MAX_REGISTRY_LENGTH, RESERVED_REGISTRIES, is_registry_name
from regserver.storage.catalog.registries import RegistryFilter, RegistrySort

PER_PAGE = 50
MAX_QUOTA_GIB = 1_000_000_000
ORDERS = {
    "name": (RegistrySort.NAME, RegistrySort.NAME_DESC),
    "size": (RegistrySort.STORAGE_BYTES, RegistrySort.STORAGE_BYTES_DESC),
    "images": (RegistrySort.IMAGE_COUNT, RegistrySort.IMAGE_COUNT_DESC),
    "created": (RegistrySort.CREATED_AT, RegistrySort.CREATED_AT_DESC),
}


async def show(visit: Visit) -> web.Response:
    return await _page(visit)


async def _page(visit: Visit, *, fault: str = "", name: str = "", status: int = 200) -> web.Response:
    chosen, number = visit.asked("q"), visit.number("page")
    sort = visit.asked("sort", "-size")
    order = ORDERS.get(sort.removeprefix("-"), ORDERS["size"])[sort.startswith("-")]
    wanted = RegistryFilter(None, chosen or None, visit.caller.visible)
    rows, total = await visit.services.registries.page(wanted, order, PER_PAGE, (number - 1) * PER_PAGE)
    default = visit.services.settings.default_quota_bytes
    quotas = {row.row.id: row.row.quota_bytes if row.row.quota_bytes is not None else default for row in rows}
    return visit.page(
        "registries.html",
        status=status,
        rows=rows,
        quotas=quotas,
        largest=max((row.row.used_bytes for row in rows), default=0),
        total=total,
        number=number,
        pages=-(-total // PER_PAGE),
        sort=sort,
        chosen=chosen,
        may_create=visit.may(Access.API_ADMIN),
        fault=fault,
        name=name,
    )


async def create(visit: Visit) -> web.Response:
    name = visit.form.get("name", "").strip()
    try:
        quota = quota_bytes(visit.form.get("quota", ""))
        _check_name(name)
        row = await visit.services.registries.create(
            name, public="public" in visit.form, quota_bytes=quota, by=visit.caller.actor
        )
    except RegistryError as refused:
        if refused.code not in (ErrorCode.VALIDATION_FAILED, ErrorCode.ALREADY_EXISTS):
            raise
        return await _page(visit, fault=refused.message, name=name[:MAX_REGISTRY_LENGTH], status=refused.code.status)
    return see_other(links.registry(row.id, said="registry-created"))


def _check_name(name: str) -> None:
    """Raises RegistryError VALIDATION_FAILED."""
    if not is_registry_name(name):
        message = "a registry's name is lower-case letters and digits, joined by single dots, underscores or dashes"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)
    if name in RESERVED_REGISTRIES:
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=f"{name} is a reserved name; take another one")


def quota_bytes(text: str) -> int | None:
    """GiB, fractions allowed; empty is the server's default. Raises RegistryError VALIDATION_FAILED."""
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_QUOTA_GIB:
        message = f"a quota is a number of GiB between 0 and {MAX_QUOTA_GIB:,}, or empty for the server's default"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)
    return round(value * GIB)
