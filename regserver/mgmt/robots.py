"""``/v1/registries/:id/robots``: accounts of a registry, each with its own password, rights and end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from regserver.auth.robots import Rights
from regserver.errors import ErrorCode
from regserver.mgmt import answers, body, paths
from regserver.mgmt.conditions import etag, if_match
from regserver.mgmt.declared import About, Fault, Faults, Moment, Nullable, Record, Schema, Text, Texts, refuse
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.query import Query
from regserver.mgmt.resources import ROBOT, ROBOT_CREATED, ROBOT_ROTATED, ROTATION
from regserver.model.access import Action
from regserver.model.globs import GLOB, MAX_GLOB_LENGTH, MAX_GLOBS, Globs, is_glob
from regserver.model.names import COMPONENT
from regserver.model.times import now_ms, rfc3339
from regserver.storage.catalog.accounts import CredentialRow
from regserver.web.context import Call

MAX_NAME_LENGTH = 63

_NAME = re.compile(COMPONENT, re.ASCII)


def _name(text: str) -> tuple[str, str] | None:
    if len(text) > MAX_NAME_LENGTH:
        return "too_long", f"must be at most {MAX_NAME_LENGTH} characters"
    if not _NAME.fullmatch(text):
        return "invalid_format", "must be lower-case letters and digits, joined by single dots, underscores or dashes"
    return None


def _action(text: str) -> tuple[str, str] | None:
    return None if text in list(Action) else ("unknown_value", f"must be one of {', '.join(Action)}")


def _glob(text: str) -> tuple[str, str] | None:
    return None if is_glob(text) else ("invalid_format", "must be an image's name with * in it, or /** at its end")


class _Actions:
    """A list of actions. Who pushes reads too, so ``push`` comes with ``pull``."""

    _texts = Texts(_action, 1, len(Action), {"enum": list(Action)})

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        before = len(faults)
        self._texts.read(value, path, faults)
        if len(faults) > before:
            return value
        if Action.PUSH in value and Action.PULL not in value:
            faults.append(Fault(path, "incomplete", "push needs pull"))
        return frozenset(map(Action, value)) if len(faults) == before else value

    def schema(self) -> Schema:
        pushes, pulls = ({"contains": {"const": str(action)}} for action in (Action.PUSH, Action.PULL))
        return {**self._texts.schema(), "anyOf": [pulls, {"not": pushes}]}


_RIGHTS = {
    "actions": About("What it may do; all of it at first. push needs pull.", _Actions()),
    "images": About(
        "Globs over the images' names, without the registry's: * is any text up to the next slash, ** at the end "
        "everything below. null, as at first: every image.",
        Nullable(Texts(_glob, 1, MAX_GLOBS, {"pattern": f"^{GLOB}$", "maxLength": MAX_GLOB_LENGTH})),
    ),
    "expires_at": About("From then on it is refused. null, as at first: never.", Nullable(Moment())),
}
_CREATE = Record(
    {
        "name": About(
            "Its username is robot$<registry>+<name>.",
            Text(_name, {"pattern": f"^{COMPONENT}$", "maxLength": MAX_NAME_LENGTH}),
        ),
        **_RIGHTS,
    },
    required=frozenset({"name"}),
)
_UPDATE = Record(_RIGHTS)


@operation(Group.ROBOTS, "List robots", items=ROBOT)
async def list_robots(request: web.Request, call: Call) -> web.Response:
    """The registry's own robot first, then the others from the oldest."""
    query = Query(request)
    paging = query.paging()
    query.finish()
    registry = await call.services.registries.get(paths.registry_id(request))
    rows, total = await call.services.robots.page(registry.id, paging.per_page, paging.offset)
    return answers.listed(request, [_shown(row) for row in rows], total, paging)


@operation(
    Group.ROBOTS,
    "Create a robot",
    data=ROBOT_CREATED,
    status=201,
    body=_CREATE,
    headers=[hdrs.LOCATION, hdrs.ETAG, hdrs.CACHE_CONTROL],
    refusals=[ErrorCode.ALREADY_EXISTS, ErrorCode.NOT_READY],
)
async def create_robot(request: web.Request, call: Call) -> web.Response:
    """Another account of the registry, with its password."""
    registry_id = paths.registry_id(request)
    values = await body.required(request, call, _CREATE)
    name, changes = values.pop("name"), _changes(values)
    row, password = await call.services.robots.add(registry_id, name, Rights(**changes), call.caller.actor)
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/registries/{registry_id}/robots/{row.id}", hdrs.ETAG: etag(row)}
    return answers.secret(_shown(row), {"password": password}, status=201, headers=headers)


async def renew_robot(request: web.Request, call: Call, public: Mapping[str, Any]) -> dict[str, str]:
    """The password as it is now."""
    registry_id, actor = paths.registry_id(request), call.caller.actor
    return {"password": await call.services.robots.show_one(registry_id, public["id"], actor)}


@operation(Group.ROBOTS, "Get a robot", data=ROBOT, headers=[hdrs.ETAG])
async def get_robot(request: web.Request, call: Call) -> web.Response:
    row = await call.services.robots.get(paths.registry_id(request), paths.robot_id(request))
    return answers.single(_shown(row), headers={hdrs.ETAG: etag(row)})


@operation(
    Group.ROBOTS,
    "Change a robot",
    data=ROBOT,
    body=_UPDATE,
    conditions=[hdrs.IF_MATCH],
    headers=[hdrs.ETAG],
    refusals=[ErrorCode.OWN_ROBOT],
)
async def update_robot(request: web.Request, call: Call) -> web.Response:
    """Its password stays, and so do bearer tokens drawn from it; what they may do changes at once."""
    registry_id, robot_id, expected = paths.registry_id(request), paths.robot_id(request), if_match(request)
    changes = _changes(await body.required(request, call, _UPDATE))
    row = await call.services.robots.change(registry_id, robot_id, changes, expected, call.caller.actor)
    return answers.single(_shown(row), headers={hdrs.ETAG: etag(row)})


@operation(
    Group.ROBOTS,
    "Rotate a robot's password",
    data=ROBOT_ROTATED,
    optional_body=ROTATION,
    headers=[hdrs.CACHE_CONTROL],
    refusals=[ErrorCode.NOT_READY],
)
async def rotate_robot(request: web.Request, call: Call) -> web.Response:
    """As for the registry's own, whose credentials this rotates too if it is the one."""
    registry_id, robot_id = paths.registry_id(request), paths.robot_id(request)
    values = await body.optional(request, call, ROTATION)
    row, password = await call.services.robots.rotate_one(
        registry_id, robot_id, values.get("grace_seconds", 0), call.caller.actor
    )
    grace = {} if row.previous is None else {"previous_valid_until": rfc3339(row.previous.until)}
    return answers.secret({**_shown(row), **grace}, {"password": password})


@operation(Group.ROBOTS, "Delete a robot", conditions=[hdrs.IF_MATCH], refusals=[ErrorCode.OWN_ROBOT])
async def delete_robot(request: web.Request, call: Call) -> web.Response:
    """Its password and every bearer token drawn from it are dead at once."""
    registry_id, robot_id, expected = paths.registry_id(request), paths.robot_id(request), if_match(request)
    await call.services.robots.delete(registry_id, robot_id, expected, call.caller.actor)
    return answers.nothing()


def _changes(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of Rights. Raises RegistryError VALIDATION_FAILED for an end that has passed."""
    if values.get("expires_at") is not None and values["expires_at"] <= now_ms():
        refuse([Fault("expires_at", "in_the_past", "must lie ahead")])
    if values.get("images") is not None:
        values["images"] = Globs(tuple(values["images"]))
    return values


def _shown(row: CredentialRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "username": row.username,
        "actions": [action for action in Action if action in row.actions],
        "images": None if row.images is None else list(row.images.patterns),
        "expires_at": None if row.expires_at is None else rfc3339(row.expires_at),
        "last_used_at": None if row.last_used_at is None else rfc3339(row.last_used_at),
        "created_at": rfc3339(row.created_at),
    }
