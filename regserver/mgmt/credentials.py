"""``/v1/registries/:id/credentials``: the registry's robot and its password."""

from __future__ import annotations

import base64

from aiohttp import web

from regserver.mgmt import answers, body, paths
from regserver.mgmt.declared import Record
from regserver.web.context import Call

_ROTATE = Record({})


async def get_credentials(request: web.Request, call: Call) -> web.Response:
    """The password is the same on every call until it is rotated."""
    username, password = await call.services.robots.credentials(paths.registry_id(request))
    host = answers.host(request, call)
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    return answers.secret(
        {
            "username": username,
            "password": password,
            "endpoint": host,
            "docker_config": {"auths": {host: {"auth": auth}}},
        }
    )


async def rotate_credentials(request: web.Request, call: Call) -> web.Response:
    """Once this is answered, the earlier password and the bearer tokens drawn from it are dead."""
    registry_id = paths.registry_id(request)
    await body.optional(request, call, _ROTATE)
    username, password = await call.services.robots.rotate(registry_id)
    return answers.secret({"username": username, "password": password})
