"""What a refusal looks like to a client. The only place that knows both error formats."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import hdrs, web

from regserver.errors import ErrorCode, RegistryError

MANAGEMENT = "/v1"
RETRY_SECONDS = 5


def render(path: str, error: RegistryError, request_id: str) -> web.Response:
    """OCI ``errors[]`` under /v2 and /token (distribution spec, "Error Codes"), the management API's form elsewhere."""
    body = _managed(error, request_id) if is_managed(path) else _oci(error)
    response = web.Response(
        status=error.code.status,
        body=json.dumps(body).encode(),  # ASCII only: no text that came in can break out of it
        headers={hdrs.CONTENT_TYPE: "application/json", **error.headers},
    )
    if error.code.status == ErrorCode.UNAVAILABLE.status:
        response.headers.setdefault(hdrs.RETRY_AFTER, str(RETRY_SECONDS))
    return response


def is_managed(path: str) -> bool:
    return path == MANAGEMENT or path.startswith(MANAGEMENT + "/")


def _oci(error: RegistryError) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": error.code.wire, "message": error.message}
    if error.detail is not None:
        entry["detail"] = error.detail
    return {"errors": [entry]}


def _managed(error: RegistryError, request_id: str) -> dict[str, Any]:
    detail = error.detail
    details = detail if isinstance(detail, list) else [] if detail is None else [detail]
    code = error.code.name.lower()
    return {"error": {"code": code, "message": error.message, "request_id": request_id, "details": details}}


def from_http(error: web.HTTPException) -> RegistryError:
    """The framework's own refusals, in our words: no such path, no such method, a body over its limit."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = ", ".join(sorted(error.allowed_methods))
        return RegistryError(ErrorCode.UNSUPPORTED, headers={hdrs.ALLOW: allow})
    if isinstance(error, web.HTTPNotFound):
        return RegistryError(ErrorCode.NOT_FOUND)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return RegistryError(ErrorCode.BODY_TOO_LARGE)
    return RegistryError(ErrorCode.REQUEST_INVALID)
