"""Manifests: end-3 (GET, HEAD), end-7 and end-7b (PUT), end-9 (DELETE). The bytes go out exactly as they came in."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from regserver.content.manifests import ManifestInfo, PutManifest
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest
from regserver.model.names import Tag, parse_reference
from regserver.oci.base import DIGEST, expected, reference_to_read, repository_path, to_the_end, warning
from regserver.web.context import Call
from regserver.web.facts import one, texts
from regserver.web.ranges import matches
from regserver.web.streaming import read

MOST_TAGS: Final = 100  # in one request: the answer has a header line for each, and clients read about so many


def _headers(info: ManifestInfo) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: info.media_type,
        hdrs.CONTENT_LENGTH: str(info.size),
        hdrs.ETAG: f'"{info.digest}"',
        DIGEST: str(info.digest),
    }


def _unchanged(request: web.Request, info: ManifestInfo) -> web.Response | None:
    tags = request.headers.getall(hdrs.IF_NONE_MATCH, [])
    if not tags or not matches(",".join(tags), f'"{info.digest}"'):
        return None
    headers = _headers(info)
    del headers[hdrs.CONTENT_LENGTH]
    return web.Response(status=304, headers=headers)


async def head(request: web.Request, call: Call) -> web.Response:
    info = await call.services.manifests.stat(call.repository, call.caller, reference_to_read(request))
    return _unchanged(request, info) or web.Response(headers=_headers(info))


async def get(request: web.Request, call: Call) -> web.Response:
    info, content = await call.services.manifests.get(call.repository, call.caller, reference_to_read(request))
    return _unchanged(request, info) or web.Response(headers=_headers(info), body=content)


async def put(request: web.Request, call: Call) -> web.Response:
    """By tag or by digest; ``tag`` in the query, any number of times, tags it as well, all or nothing."""
    settings, reference = call.services.settings, parse_reference(request.match_info["reference"])
    asked = _tags(request)
    tags = [*([reference] if isinstance(reference, Tag) else []), *asked]
    digest = reference if isinstance(reference, Digest) else None
    condition, content_type = expected(request), one(request, hdrs.CONTENT_TYPE)
    content = await read(request, settings, settings.max_manifest_bytes, ErrorCode.MANIFEST_TOO_LARGE)
    step = call.services.manifests.put(
        call.repository, call.caller, digest, list(dict.fromkeys(tags)), content, content_type, condition
    )
    return _stored(request, await to_the_end(step), asked)


def _tags(request: web.Request) -> list[Tag]:
    """end-7b: each once. Raises RegistryError MANIFEST_INVALID for a bad one, REQUEST_INVALID for too many."""
    tags = list(dict.fromkeys(Tag.parse(text) for text in texts(request, "tag")))
    if len(tags) > MOST_TAGS:
        raise RegistryError(ErrorCode.REQUEST_INVALID, {"tags": len(tags), "limit": MOST_TAGS})
    return tags


def _stored(request: web.Request, done: PutManifest, asked: list[Tag]) -> web.Response:
    headers = CIMultiDict(warning(done.usage))
    headers[hdrs.LOCATION] = f"{repository_path(request)}/manifests/{done.digest}"
    headers[DIGEST] = str(done.digest)
    if done.subject is not None:
        headers["OCI-Subject"] = str(done.subject)
    for tag in asked:
        headers.add("OCI-Tag", str(tag))
    return web.Response(status=201, headers=headers)


async def delete(request: web.Request, call: Call) -> web.Response:
    """That tag only; or the manifest and with it all its tags."""
    match reference_to_read(request):
        case Digest() as digest:
            await call.services.manifests.delete(call.repository, call.caller, digest)
        case Tag() as tag:
            await call.services.manifests.untag(call.repository, call.caller, tag, expected(request))
    return web.Response(status=202)
