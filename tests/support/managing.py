"""Calls of the management API at a registry that `support.registry` serves."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from regserver.web.context import SERVICES, Services
from support.pushing import Answer, Registry

JSON = {"Content-Type": "application/json"}
PATIENCE_SECONDS = 30.0  # longer than anything should take; what waits longer has failed


async def call(
    registry: Registry,
    method: str,
    path: str,
    document: Any = None,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request below ``/v1``; a document goes out as JSON."""
    body = None if document is None else json.dumps(document).encode()
    lines = {**(JSON if body is not None else {}), **(headers or {})}
    return await registry.send(method, f"/v1{path}", data=body, headers=lines, query=query or {})


async def make_registry(registry: Registry, name: str, **fields: Any) -> str:
    """The new registry's id."""
    answer = await call(registry, "POST", "/registries", {"name": name, **fields})
    assert answer.status == 201, answer
    return str(answer.json["data"]["id"])


def refusal(answer: Answer) -> tuple[int, str]:
    """Status and stable code, of an error in the one documented form."""
    assert set(answer.json) == {"error"}, answer
    error = answer.json["error"]
    assert set(error) == {"code", "message", "request_id", "details"}, answer
    assert error["request_id"] == answer.headers["X-Request-Id"], answer
    return answer.status, str(error["code"])


def faults(answer: Answer) -> set[tuple[str, str]]:
    """(field, code) of everything that was wrong with the request."""
    assert refusal(answer) == (422, "validation_failed"), answer
    details = answer.json["error"]["details"]
    assert all(set(fault) == {"field", "code", "message"} for fault in details), answer
    return {(fault["field"], fault["code"]) for fault in details}


def services_of(registry: Registry) -> Services:
    return registry.client.app[SERVICES]  # type: ignore[index]


async def collect(registry: Registry, registry_id: str) -> Any:
    """A collection, run to its end; the job as its status shows it."""
    started = await call(registry, "POST", f"/registries/{registry_id}/gc")
    assert started.status == 200, started
    return await ended(registry, registry_id, started.json["data"]["job_id"])


async def ended(registry: Registry, registry_id: str, job_id: str) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await call(registry, "GET", f"/registries/{registry_id}/gc/{job_id}")
            assert answer.status == 200, answer
            if answer.json["data"]["status"] != "running":
                return answer.json["data"]
            await asyncio.sleep(0.01)
