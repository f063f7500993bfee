"""Credentials of a registry and its robots: shown when asked for, which the audit log tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from regserver.auth.robots import Rights
from regserver.console import links
from regserver.console.pages.registry import frame
from regserver.console.visit import Visit, see_other
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Action
from regserver.model.globs import MAX_GLOBS, Globs, is_glob
from regserver.model.ids import is_id
from regserver.model.names import is_registry_name
from regserver.model.times import now_ms
from regserver.storage.catalog.accounts import CredentialRow

MAX_ROBOTS = 100
DAY_MS = 86_400_000
MAX_DAYS = 3650
NOTHING: Final[Mapping[str, str]] = {}
GRACE = {"0": 0, "3600": 3600, "86400": 86400}


@dataclass(frozen=True, slots=True)
class Shown:
    """A password that this one answer holds."""

    username: str
    password: str
    title: str
    until: int | None = None  # until when the password from before is good too


async def show(visit: Visit) -> web.Response:
    return await _page(visit)


async def _page(
    visit: Visit, *, secret: Shown | None = None, fault: str = "", status: int = 200, typed: Mapping[str, str] = NOTHING
) -> web.Response:
    top = await frame(visit, "access")
    rows, total = await visit.services.robots.page(visit.registry_id, MAX_ROBOTS, 0)
    return visit.page(
        "access.html",
        status=status,
        **top,
        robots=rows,
        total=total,
        secret=secret,
        fault=fault,
        fields={"name": "", "images": "", "days": "", "actions": "push", **typed},
        actions_of=actions_of,
        now=now_ms(),
    )


async def reveal(visit: Visit) -> web.Response:
    """The password of a robot. It is the same until the next rotation."""
    row = await _robot(visit)
    password = await visit.services.robots.show_one(visit.registry_id, row.id, visit.caller.actor)
    return await _page(visit, secret=Shown(row.username, password, f"Credentials of {row.username}"))


async def rotate(visit: Visit) -> web.Response:
    row, grace = await _robot(visit), GRACE.get(visit.form.get("grace", "0"), 0)
    row, password = await visit.services.robots.rotate_one(visit.registry_id, row.id, grace, visit.caller.actor)
    until = row.previous.until if row.previous else None
    return await _page(visit, secret=Shown(row.username, password, f"New password of {row.username}", until))


async def create(visit: Visit) -> web.Response:
    form, name = visit.form, visit.form.get("name", "").strip()
    try:
        _check_name(name)
        rights = Rights(_actions(form.get("actions", "")), _globs(form.get("images", "")), _end(form.get("days", "")))
        row, password = await visit.services.robots.add(visit.registry_id, name, rights, visit.caller.actor)
    except RegistryError as refused:
        if refused.code not in (ErrorCode.VALIDATION_FAILED, ErrorCode.ALREADY_EXISTS):
            raise
        typed = {field: form.get(field, "") for field in ("name", "images", "days", "actions")}
        return await _page(visit, fault=refused.message, status=refused.code.status, typed=typed)
    return await _page(visit, secret=Shown(row.username, password, f"{row.username} is there"))


def _check_name(name: str) -> None:
    """Raises RegistryError VALIDATION_FAILED."""
    if not is_registry_name(name):
        message = "a robot's name is lower-case letters and digits, joined by single dots, underscores or dashes"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)


async def delete(visit: Visit) -> web.Response:
    row = await _robot(visit)
    await visit.services.robots.delete(visit.registry_id, row.id, None, visit.caller.actor)
    return see_other(links.registry(visit.registry_id, "access", said="robot-deleted"))


async def _robot(visit: Visit) -> CredentialRow:
    """The robot of the form. Raises RegistryError NOT_FOUND."""
    robot_id = visit.form.get("robot", "")
    if not is_id("rob", robot_id):
        raise RegistryError(ErrorCode.NOT_FOUND)
    return await visit.services.robots.get(visit.registry_id, robot_id)


ACTIONS = {
    "pull": frozenset({Action.PULL}),
    "push": frozenset({Action.PULL, Action.PUSH}),
    "all": frozenset(Action),
}


def _actions(text: str) -> frozenset[Action]:
    if text not in ACTIONS:
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message="choose what the robot may do")
    return ACTIONS[text]


def actions_of(row: CredentialRow) -> str:
    """In the order in which challenges name them."""
    return ", ".join(action for action in Action if action in row.actions)


def _globs(text: str) -> Globs | None:
    found = text.replace(",", " ").split()
    wrong = next((one for one in found if not is_glob(one)), None)
    if wrong is not None or len(found) > MAX_GLOBS:
        message = f"{wrong} is no pattern of images: take names with * in them, or /** at the end"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)
    return Globs(tuple(found)) if found else None


def _end(text: str) -> int | None:
    if not text.strip():
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_DAYS):
        message = f"a robot ends after 1 to {MAX_DAYS:,} days, or never"
        raise RegistryError(ErrorCode.VALIDATION_FAILED, message=message)
    return now_ms() + int(text) * DAY_MS
