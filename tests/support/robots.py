"""Robots of a registry that `support.registry` serves."""

from typing import Any

from aiohttp import encode_basic_auth

from support.managing import call
from support.pushing import Registry, draw_token


async def make_robot(registry: Registry, registry_id: str, name: str, **rights: Any) -> dict[str, Any]:
    answer = await call(registry, "POST", f"/registries/{registry_id}/robots", {"name": name, **rights})
    assert answer.status == 201, answer
    return dict(answer.json["data"])


def login(registry: Registry, robot: dict[str, Any]) -> Registry:
    """The registry as that robot sees it."""
    return registry.seen_by(encode_basic_auth(robot["username"], robot["password"]))


async def bearer(registry: Registry, robot: dict[str, Any], scope: str) -> Registry:
    return registry.seen_by(await draw_token(login(registry, robot), scope))


async def pulled(registry: Registry, image: str) -> int:
    return (await registry.send("GET", f"/v2/{image}/manifests/v1")).status
