"""``Idempotency-Key`` on POST under /v1: the same request again gets the same answer again.

Only answers that say "done" are kept. A refusal changed nothing, so the request may simply be sent again. A secret is
never kept: its route says how it is made again (``Route.renew``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web

from regserver.content.core import Core
from regserver.content.idempotency import UNANSWERED_EPOCHS, Claim, KeyTaken, claiming
from regserver.errors import ErrorCode, RegistryError
from regserver.storage.catalog import clock, idempotency
from regserver.storage.catalog.idempotency import Kept, KeyRow
from regserver.storage.sql.port import DatabaseFailed, Transaction
from regserver.web import streaming
from regserver.web.context import Call, Route
from regserver.web.facts import FACTS, one

logger = logging.getLogger(__name__)

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEY_FORM: Final = "[!-~]{1,255}"
PUBLIC: Final = web.ResponseKey("public", Mapping[str, Any])  # what of an answer with a secret is none
_TOLD: Final = (hdrs.LOCATION, hdrs.ETAG, hdrs.CACHE_CONTROL, hdrs.CONTENT_TYPE)
_RETRY_SECONDS: Final = 1


async def answer(request: web.Request, route: Route, call: Call) -> web.StreamResponse:
    """The handler's answer, or what was answered before under the same key.

    Raises RegistryError KEY_REUSED, REQUEST_IN_PROGRESS, ANSWER_LOST, and what the handler raises."""
    key, core = one(request, KEY), call.services.core
    if key is None:
        return await route.handler(request, call)
    if not re.fullmatch(KEY_FORM, key):
        raise RegistryError(ErrorCode.REQUEST_INVALID, message=f"{KEY} must be 1 to 255 visible ASCII characters")
    claim = Claim(call.caller.account.subject, key, await _fingerprint(request, call))
    found = await idempotency.find(core.db, claim.principal, key)
    if found is None:
        try:
            return await _first(request, route, call, claim)
        except KeyTaken:  # by a twin that was faster
            found = await idempotency.find(core.db, claim.principal, key)
    return await _again(request, route, call, claim, found)


async def _fingerprint(request: web.Request, call: Call) -> str:
    """Of method, path, query and body, byte by byte. The handler finds the body where it would have read it."""
    content = await streaming.read(request, call.services.settings, streaming.MAX_DOCUMENT_BYTES)
    request[FACTS].content = content
    head = f"{request.method}\0{request.rel_url.raw_path_qs}\0".encode()
    return hashlib.sha256(head + content).hexdigest()


async def _first(request: web.Request, route: Route, call: Call, claim: Claim) -> web.StreamResponse:
    with claiming(claim):
        response = await route.handler(request, call)
    kept = _kept(response)
    if kept is not None:
        try:
            await call.services.core.db.write(partial(_keep, claim, kept))
        except DatabaseFailed as failed:  # it is done, so the answer stands; only nobody will get it twice
            logger.warning("an answer was not kept for its idempotency key: %s", failed)
    return response


async def _keep(claim: Claim, kept: Kept, tx: Transaction) -> None:
    await idempotency.answer(tx, claim.principal, claim.key, claim.fingerprint, kept)


def _kept(response: web.StreamResponse) -> Kept | None:
    """None for what is not given again."""
    if not isinstance(response, web.Response) or response.status >= 300:
        return None
    headers = {str(name): response.headers[name] for name in _TOLD if name in response.headers}
    public = response.get(PUBLIC)
    if public is not None:
        return Kept(response.status, headers, json.dumps({"data": public}))
    if "no-store" in response.headers.get(hdrs.CACHE_CONTROL, ""):
        raise LookupError("an answer with a secret does not say what of it is none")
    content = response.body if isinstance(response.body, bytes) else b""
    return Kept(response.status, headers, content.decode())


async def _again(
    request: web.Request, route: Route, call: Call, claim: Claim, found: KeyRow | None
) -> web.StreamResponse:
    if found is not None and found.fingerprint != claim.fingerprint:
        raise RegistryError(ErrorCode.KEY_REUSED)
    if found is None or found.answer is None:
        raise await _unanswered(call.services.core, found)
    kept = found.answer
    content = kept.body
    if route.renew is not None:
        public = json.loads(content)["data"]
        content = json.dumps({"data": {**public, **await route.renew(request, call, public)}})
    headers = {**kept.headers, REPLAYED: "true"}
    return web.Response(status=kept.status, body=content.encode(), headers=headers)


async def _unanswered(core: Core, found: KeyRow | None) -> RegistryError:
    """A twin is at work, or the process ended before it could answer."""
    if found is not None and await clock.epoch(core.db) > found.epoch + UNANSWERED_EPOCHS:
        return RegistryError(ErrorCode.ANSWER_LOST)
    return RegistryError(ErrorCode.REQUEST_IN_PROGRESS, headers={hdrs.RETRY_AFTER: str(_RETRY_SECONDS)})
