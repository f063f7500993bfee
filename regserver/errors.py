"""Every way a request can be refused, in one table.

Handlers and rules raise ``RegistryError(ErrorCode.X, detail)``. One middleware renders it: under ``/v2`` as the
distribution spec's ``errors[]`` with ``wire`` as the code, under ``/v1`` as ``{"error": {...}}`` with the lower-case
member name. A status lives here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class ErrorCode(Enum):
    """wire code under /v2 (distribution spec, "Error Codes"), HTTP status, message for people."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN", 404, "blob unknown to registry"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"
    DIGEST_INVALID = "DIGEST_INVALID", 400, "provided digest is malformed or did not match uploaded content"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN", 404, "manifest references content unknown to this repository"
    MANIFEST_INVALID = "MANIFEST_INVALID", 400, "manifest invalid"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"
    NAME_INVALID = "NAME_INVALID", 400, "invalid repository name"
    NAME_UNKNOWN = "NAME_UNKNOWN", 404, "repository name not known to registry"
    SIZE_INVALID = "SIZE_INVALID", 400, "provided length did not match content length"
    UNAUTHORIZED = "UNAUTHORIZED", 401, "authentication required"
    DENIED = "DENIED", 403, "requested access to the resource is denied"
    UNSUPPORTED = "UNSUPPORTED", 405, "the operation is unsupported"
    TOO_MANY_REQUESTS = "TOOMANYREQUESTS", 429, "too many requests"
    # The same codes where HTTP asks for a status of its own.
    REFERENCED = "DENIED", 405, "still referenced; delete what references it first"
    MANIFEST_TOO_LARGE = "MANIFEST_INVALID", 413, "manifest is larger than this registry accepts"
    BODY_TOO_LARGE = "SIZE_INVALID", 413, "request body is larger than accepted here"
    RANGE_INVALID = "BLOB_UPLOAD_INVALID", 416, "the range does not start where the upload stands"
    RANGE_UNSATISFIABLE = "SIZE_INVALID", 416, "the requested range lies outside the content"
    ENCODING_UNSUPPORTED = "UNSUPPORTED", 415, "send the body as it is: Content-Encoding is not accepted"
    MEDIA_TYPE_UNSUPPORTED = "UNSUPPORTED", 415, "this media type is not accepted here"
    REQUEST_INVALID = "UNSUPPORTED", 400, "the request is malformed"
    PAGINATION_INVALID = "PAGINATION_NUMBER_INVALID", 400, "n must be a whole number of at most nine digits"
    PRECONDITION_FAILED = "DENIED", 412, "the resource has changed since you read it"
    REQUEST_TIMEOUT = "BLOB_UPLOAD_INVALID", 408, "the body did not arrive in time"
    UNAVAILABLE = "UNAVAILABLE", 503, "the registry cannot store this right now; nothing was kept, try again later"
    INTERNAL = "UNKNOWN", 500, "internal error; the server's log has the request id"
    # The management API's own; /v2 never raises them.
    MALFORMED_JSON = "UNSUPPORTED", 400, "the body is not a JSON object"
    VALIDATION_FAILED = "UNSUPPORTED", 422, "some fields are not acceptable"
    NOT_FOUND = "NAME_UNKNOWN", 404, "there is no such resource"
    ALREADY_EXISTS = "DENIED", 409, "a resource of this name exists already"
    NOT_EMPTY = "DENIED", 409, "the registry still holds images; delete them or pass force=true"
    NOT_RESTORABLE = "MANIFEST_UNKNOWN", 409, "what it named is no longer there; push it again"
    KEY_REUSED = "DENIED", 422, "this idempotency key came with another request before; take a new one"
    REQUEST_IN_PROGRESS = "DENIED", 409, "a request with this idempotency key is at work; ask again"
    ANSWER_LOST = "DENIED", 409, "this was done already, and its answer cannot be given again; look at what is there"
    OWN_ROBOT = "DENIED", 409, "a registry's own robot stays as it is; rotate its password, or make another robot"
    NOT_READY = "UNAVAILABLE", 409, "the registry is not ready yet"

    def __init__(self, wire: str, status: int, message: str) -> None:
        self.wire = wire
        self.status = status
        self.message = message


class RegistryError(Exception):
    """A refusal that a client may see. ``detail`` goes to the client: never put a secret or a path into it.

    ``headers`` accompany the answer (``Range``, ``Retry-After``, ``WWW-Authenticate``).
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: Any = None,
        *,
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or code.message)
        self.code = code
        self.detail = detail
        self.message = message or code.message
        self.headers = dict(headers or {})


class Unauthorized(RegistryError):
    """401: who are you, or your token does not say so. The web layer adds the challenge (RFC 6750 §3).

    ``scope`` is what the route would need (``repository:a/b:pull,push``); ``error`` is ``insufficient_scope``,
    ``invalid_token``, or None where no credentials were sent.
    """

    def __init__(self, *, scope: str | None = None, error: str | None = None, message: str | None = None) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, message=message)
        self.scope = scope
        self.error = error
