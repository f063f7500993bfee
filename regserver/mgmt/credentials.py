"""``/v1/registries/:id/credentials``: the registry's robot and its password."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from regserver.mgmt import answers, body, paths
from regserver.mgmt.operations import Group, operation
from regserver.mgmt.resources import CREDENTIALS, ROTATED, ROTATION
from regserver.model.times import rfc3339
from regserver.web.context import Call


@operation(Group.CREDENTIALS, "Get the credentials", data=CREDENTIALS, headers=[hdrs.CACHE_CONTROL])
async def get_credentials(request: web.Request, call: Call) -> web.Response:
    """The password is the same on every call until it is rotated."""
    username, password = await call.services.robots.show(paths.registry_id(request), call.caller.actor)
    host = answers.host(request, call)
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    secrets = {
        "username": username,
        "password": password,
        "endpoint": host,
        "docker_config": {"auths": {host: {"auth": auth}}},
    }
    return answers.secret({}, secrets)


@operation(
    Group.CREDENTIALS, "Rotate the credentials", data=ROTATED, optional_body=ROTATION, headers=[hdrs.CACHE_CONTROL]
)
async def rotate_credentials(request: web.Request, call: Call) -> web.Response:
    """Once this is answered, the earlier password and the bearer tokens drawn from it are dead; with
    ``grace_seconds`` they live on for so long beside the new one."""
    registry_id = paths.registry_id(request)
    values = await body.optional(request, call, ROTATION)
    grace_seconds, by = values.get("grace_seconds", 0), call.caller.actor
    username, password, until = await call.services.robots.rotate(registry_id, grace_seconds, by)
    grace = {} if until is None else {"previous_valid_until": rfc3339(until)}
    return answers.secret({"username": username, **grace}, {"password": password})


async def renew_credentials(request: web.Request, call: Call, public: Mapping[str, Any]) -> dict[str, str]:
    """The password as it is now."""
    _, password = await call.services.robots.show(paths.registry_id(request), call.caller.actor)
    return {"password": password}
