"""What stands in paths and headers, for the description: the forms are those that ``paths`` and ``conditions`` read."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs

from regserver.mgmt.declared import Schema
from regserver.mgmt.schemas import digest, identity, text
from regserver.model.names import MAX_REPOSITORY_LENGTH, PATH, TAG
from regserver.web.idempotency import KEY, KEY_FORM, REPLAYED
from regserver.web.sse import LAST_ID

Described = tuple[Schema, str]

PATH_PARAMETERS: Final[dict[str, Described]] = {
    "registry_id": (identity("reg"), "The registry's id."),
    "image": (
        text("team/api", pattern=f"^{PATH}$", maxLength=MAX_REPOSITORY_LENGTH - 1),
        "The image's name. Send its slashes as %2F; as they are they work too, unless a part of the name is `tags`.",
    ),
    "tag": (text("v1.2.0", pattern=f"^{TAG}$"), "The tag."),
    "job_id": (identity("gc"), "The collection's id."),
    "digest": (digest(), "The digest of a manifest or a blob."),
    "token_id": (identity("tok"), "The API token's id."),
    "robot_id": (identity("rob"), "The robot's id."),
}

REQUEST_HEADERS: Final[dict[str, Described]] = {
    KEY: (
        text("5b6f0c1e-6c1d-4b52-9f3e-0d1f3a9f2c77", pattern=f"^{KEY_FORM}$"),
        "Sent again with the same key within a day, the same request is not done again: it gets the same answer.",
    ),
    hdrs.IF_MATCH: (
        text('"1732444200000"', pattern=r'^(?:\*|"[^",]*")$'),
        "The ETag that was seen: 412 if it has changed since. One, or `*`.",
    ),
    hdrs.IF_NONE_MATCH: (text('"1732444200000"'), "The ETag that is known: 304 while it has not changed."),
}

REQUEST_HEADERS[LAST_ID] = (
    text("17", pattern=r"^[0-9]{1,18}$"),
    "The id of the last event that was seen: what follows it is sent first. It counts before `after`.",
)

RESPONSE_HEADERS: Final[dict[str, Described]] = {
    REPLAYED: (text("true"), "Where this was answered before, under the same idempotency key."),
    "X-Request-Id": (text("req_06a9v3k7fshb72q0e5dcm1n8p4"), "What the server's log knows this request by."),
    hdrs.ETAG: (text('"1732444200000"'), "Names this state, for If-Match."),
    hdrs.LOCATION: (text("/v1/registries/reg_06a9v3k7fshb72q0e5dcm1n8p4"), "Where the new resource is."),
    hdrs.LINK: (text('</v1/registries?page=2&per_page=20>; rel="next"'), "The next page, while there is one."),
    hdrs.CACHE_CONTROL: (text("no-store"), "A secret: to be kept by nobody on its way."),
    hdrs.WWW_AUTHENTICATE: (text("Bearer"), "How to say who you are."),
    hdrs.RETRY_AFTER: (text("5"), "Seconds to wait before trying again."),
}
