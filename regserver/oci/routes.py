"""/v2: the routes of the distribution spec, each with what it demands of its caller. The order matters only to people.

A repository's name may hold any of the fixed words, so ``name`` takes as much as it can.
"""

from __future__ import annotations

from typing import Final

from regserver.model.access import Access
from regserver.oci import base, blobs, listing, manifests, uploads
from regserver.web.context import Route

_NAME: Final = "/v2/{name:.+}"
_BLOB: Final = _NAME + "/blobs/{digest}"
_START: Final = _NAME + "/blobs/uploads/"
_UPLOAD: Final = _NAME + "/blobs/uploads/{upload}"
_MANIFEST: Final = _NAME + "/manifests/{reference}"

ROUTES: Final = (
    Route("GET", "/v2/", Access.LOGIN, base.version, kept=True),  # end-1
    Route("GET", "/v2/_catalog", Access.CATALOG, listing.catalog),
    Route("HEAD", _BLOB, Access.PULL, blobs.head, kept=True),  # end-2
    Route("GET", _BLOB, Access.PULL, blobs.get, kept=True),
    Route("DELETE", _BLOB, Access.DELETE, blobs.delete),  # end-10
    Route("HEAD", _MANIFEST, Access.PULL, manifests.head, kept=True),  # end-3
    Route("GET", _MANIFEST, Access.PULL, manifests.get, kept=True),
    Route("PUT", _MANIFEST, Access.PUSH, manifests.put),  # end-7, end-7b
    Route("DELETE", _MANIFEST, Access.DELETE, manifests.delete),  # end-9
    Route("POST", _START, Access.PUSH, uploads.start),  # end-4a, end-4b, end-4c, end-11
    Route("PATCH", _UPLOAD, Access.PUSH, uploads.append),  # end-5
    Route("PUT", _UPLOAD, Access.PUSH, uploads.finish),  # end-6
    Route("GET", _UPLOAD, Access.PULL, uploads.status),  # end-13; the session itself is bound to its subject
    Route("DELETE", _UPLOAD, Access.PUSH, uploads.cancel),  # end-14: who may push may also give up
    Route("GET", _NAME + "/tags/list", Access.PULL, listing.tags),  # end-8a, end-8b
    Route("GET", _NAME + "/referrers/{digest}", Access.PULL, listing.referrers),  # end-12a, end-12b
)
