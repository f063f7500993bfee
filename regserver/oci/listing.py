"""Lists: end-8a, end-8b (tags), end-12a, end-12b (referrers) and the catalog of repositories."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from regserver.content.listing import Page
from regserver.model.mediatypes import OCI_INDEX
from regserver.oci import base
from regserver.web.context import Call
from regserver.web.facts import asked


async def tags(request: web.Request, call: Call) -> web.StreamResponse:
    """One page with ``n``; without it all tags, however many, in pieces."""
    limit, last, name = base.limit(request), base.last(request), request.match_info["name"]
    first = await call.services.listing.tags(call.repository, base.PAGE if limit is None else limit, last)
    if limit is None and first.more:
        return await _whole(request, call, name, first)
    headers = _link(limit, first, f"{base.repository_path(request)}/tags/list")
    return web.json_response({"name": name, "tags": first.items}, headers=headers)


async def _whole(request: web.Request, call: Call, name: str, first: Page[str]) -> web.StreamResponse:
    """Memory stays at one page. A failure on the way cuts the connection: the end of the body says it was whole."""
    headers = {hdrs.CONTENT_TYPE: "application/json; charset=utf-8"}
    if request.method == hdrs.METH_HEAD:  # how long it would be is not known before it is read
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(f'{{"name": {json.dumps(name)}, "tags": ['.encode())
    separator = ""
    async for items in _pages(call, first):
        await response.write((separator + json.dumps(items)[1:-1]).encode())
        separator = ", "
    await response.write(b"]}")
    return response


async def _pages(call: Call, page: Page[str]) -> AsyncIterator[list[str]]:
    while page.items:
        yield page.items
        if not page.more:
            return
        page = await call.services.listing.tags(call.repository, base.PAGE, page.items[-1])


async def referrers(request: web.Request, call: Call) -> web.Response:
    """Never 404: a subject that is not here has no referrers yet, and neither has a repository."""
    subject, kind = base.path_digest(request), asked(request, "artifactType") or None
    limit, last = base.limit(request), base.last(request)
    page = await call.services.listing.referrers(
        call.repository, subject, kind, base.PAGE if limit is None else limit, last
    )
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.items}
    path, filters = f"{base.repository_path(request)}/referrers/{subject}", {"artifactType": kind} if kind else {}
    ends = Page([str(item["digest"]) for item in page.items], page.more)
    headers = {hdrs.CONTENT_TYPE: OCI_INDEX, **_link(limit or base.PAGE, ends, path, **filters)}
    if kind is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    return web.Response(body=json.dumps(index).encode(), headers=headers)


async def catalog(request: web.Request, call: Call) -> web.Response:
    limit, last = base.limit(request), base.last(request)
    page = await call.services.listing.catalog(call.caller.account, base.PAGE if limit is None else limit, last)
    headers = _link(limit or base.PAGE, page, "/v2/_catalog")
    return web.json_response({"repositories": page.items}, headers=headers)


def _link(limit: int | None, page: Page[str], path: str, **more: str) -> dict[str, str]:
    if not limit or not page.more or not page.items:
        return {}
    return {hdrs.LINK: base.next_page(path, limit, page.items[-1], **more)}
