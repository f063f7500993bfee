"""What an answer of the management API looks like: ``data``, and on lists ``meta``; nothing else at the top."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web

from regserver.mgmt.query import Paging
from regserver.web.challenge import public_base
from regserver.web.context import Call
from regserver.web.idempotency import PUBLIC

Following = Mapping[str, str | int] | None
"""The fields of the query that lead to the next page."""


def single(data: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json({"data": data}, status, headers or {})


def secret(
    public: Mapping[str, Any],
    secrets: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An answer that no cache on its way may keep (RFC 9111 §5.2.2.5); ``secrets`` are not kept here either."""
    shown = _json({"data": {**public, **secrets}}, status, {hdrs.CACHE_CONTROL: "no-store", **(headers or {})})
    shown[PUBLIC] = public
    return shown


def listed(request: web.Request, rows: Sequence[Mapping[str, Any]], total: int, paging: Paging) -> web.Response:
    """One page. ``Link`` names the next one while there is one (RFC 8288)."""
    following = {"page": paging.page + 1} if paging.page * paging.per_page < total else None
    return continued(request, rows, total, paging, following)


def continued(
    request: web.Request,
    rows: Sequence[Mapping[str, Any]],
    total: int,
    paging: Paging,
    following: Following,
) -> web.Response:
    """One page, whose next one begins where ``following`` says; None: there is none."""
    meta = {"total": total, "page": paging.page, "per_page": paging.per_page}
    headers: dict[str, str] = {}
    if following is not None:
        url = request.rel_url.update_query({"per_page": paging.per_page, **following})
        headers[hdrs.LINK] = f'<{url.raw_path_qs}>; rel="next"'
    return _json({"data": rows, "meta": meta}, 200, headers)


def nothing() -> web.Response:
    return web.Response(status=204)


def _json(body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        headers={hdrs.CONTENT_TYPE: "application/json", **headers},
    )


def host(request: web.Request, call: Call) -> str:
    """Where clients reach this registry, as it stands in an image's name: ``host[:port]``."""
    return public_base(request, call.services.settings).host_port_subcomponent or ""
