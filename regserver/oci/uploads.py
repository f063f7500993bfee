"""Uploads: end-4a, end-4b, end-11 (POST), end-5 (PATCH), end-6 (PUT), end-13 (GET), end-14 (DELETE).

Locations are paths: whatever stands before this registry, clients resolve them against where they asked.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from regserver.content.core import Usage
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Algorithm, Digest
from regserver.model.names import RepositoryName
from regserver.oci.base import DIGEST, UPLOAD_ID, blob_location, to_the_end, upload_id, upload_location, warning
from regserver.web.context import Call
from regserver.web.facts import asked, one
from regserver.web.ranges import ByteRange, parse_chunk, received
from regserver.web.streaming import body


async def start(request: web.Request, call: Call) -> web.Response:
    """Mounts, takes the whole blob, or opens a session, by what the query asks for."""
    mount, digest = asked(request, "mount"), asked(request, "digest")
    algorithm = Algorithm.parse(asked(request, "digest-algorithm") or Algorithm.SHA256)
    if mount is not None:
        wanted = Digest.parse(mount)
        mounted = await _mount(request, call, wanted)
        if mounted is not None:
            return _created(request, wanted, mounted)
        algorithm = wanted.algorithm  # what is not here will most likely be pushed
    elif digest is not None:
        return await _put_whole(request, call, Digest.parse(digest))
    started = await call.services.uploads.start(call.repository, call.caller, algorithm)
    return web.Response(status=202, headers={**_progress(request, started.id, 0), **warning(started.usage)})


async def _mount(request: web.Request, call: Call, digest: Digest) -> Usage | None:
    """end-11. None where there is nothing to mount, and where the account may not read the source: both look alike.

    CVE-2024-39897: having the blob somewhere is not enough, the account must be able to pull it from there.
    """
    services, origin = call.services, asked(request, "from")
    source, images = None, None
    if origin is not None:
        source = await services.authorizer.source(call.caller, RepositoryName.parse(origin))
        if source is None:
            return None
    else:
        images = await services.authorizer.sources(call.caller, call.repository)
    return await to_the_end(services.blobs.mount(call.repository, call.caller, digest, source, images))


async def _put_whole(request: web.Request, call: Call, digest: Digest) -> web.Response:
    content = body(request, call.services.settings)
    put = call.services.uploads.put(call.repository, call.caller, digest, content, request.content_length)
    return _created(request, digest, await to_the_end(put))


async def append(request: web.Request, call: Call) -> web.Response:
    upload, chunk = upload_id(request), _chunk(request)
    content = body(request, call.services.settings)
    size = await call.services.uploads.append(call.repository, call.caller, upload, content, *_claims(chunk))
    return web.Response(status=202, headers=_progress(request, upload, size))


async def finish(request: web.Request, call: Call) -> web.Response:
    """end-6. The last chunk may come with it, and then says where it starts as any other does."""
    upload, text = upload_id(request), asked(request, "digest")
    if text is None:
        raise RegistryError(ErrorCode.DIGEST_INVALID, message="the query parameter digest is missing")
    digest, chunk = Digest.parse(text), _chunk(request)
    content = body(request, call.services.settings)
    step = call.services.uploads.finish(call.repository, call.caller, upload, digest, content, *_claims(chunk))
    return _created(request, digest, await to_the_end(step))


async def status(request: web.Request, call: Call) -> web.Response:
    upload = upload_id(request)
    size = await call.services.uploads.status(call.repository, call.caller, upload)
    return web.Response(status=204, headers=_progress(request, upload, size))


async def cancel(request: web.Request, call: Call) -> web.Response:
    await call.services.uploads.cancel(call.repository, call.caller, upload_id(request))
    return web.Response(status=204)


def _created(request: web.Request, digest: Digest, usage: Usage) -> web.Response:
    headers = {hdrs.LOCATION: blob_location(request, digest), DIGEST: str(digest), **warning(usage)}
    return web.Response(status=201, headers=headers)


def _progress(request: web.Request, upload: str, size: int) -> dict[str, str]:
    return {hdrs.LOCATION: upload_location(request, upload), hdrs.RANGE: received(size), UPLOAD_ID: upload}


def _chunk(request: web.Request) -> ByteRange | None:
    """Raises RegistryError SIZE_INVALID, before a byte is taken, where the two lengths contradict each other."""
    chunk, stated = parse_chunk(one(request, hdrs.CONTENT_RANGE)), request.content_length
    if chunk is not None and stated is not None and stated != chunk.length:
        raise RegistryError(ErrorCode.SIZE_INVALID, {"content_range": chunk.length, "content_length": stated})
    return chunk


def _claims(chunk: ByteRange | None) -> tuple[int | None, int | None]:
    return (chunk.start, chunk.length) if chunk else (None, None)
