"""Docker's manifests in OCI's words: for tools that look for nothing else in an image layout, as skopeo does.

Only media types differ (image spec, "Compatibility Matrix"): config and layers keep their bytes and digests. A manifest
changes its bytes and so its digest, and with it every index that lists it. The same manifest always becomes the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from regserver.cli.distribution import Served
from regserver.model.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_TYPES = {
    "application/vnd.docker.container.image.v1+json": "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar": _LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": _FOREIGN,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": f"{_FOREIGN}+gzip",
}


class Conversion:
    """Of manifests by digest, each of them a JSON object. ``made``: the old digest → what is there instead."""

    def __init__(self, manifests: Mapping[str, Served]) -> None:
        self._manifests = manifests
        self.made: dict[str, Served] = {}

    @property
    def changed(self) -> set[str]:
        """Old digests of what is no longer the same."""
        return {old for old, new in self.made.items() if old != new.digest}

    def of(self, digest: str) -> Served:
        """The manifest as it goes into the layout: itself, unless Docker's words are in it or below it."""
        if digest not in self.made:
            served = self._manifests[digest]
            if served.media_type in {DOCKER_LIST, OCI_INDEX}:
                self.made[digest] = self._index(served)
            elif served.media_type == DOCKER_MANIFEST:
                self.made[digest] = _manifest(served)
            else:
                self.made[digest] = served
        return self.made[digest]

    def _index(self, served: Served) -> Served:
        document = json.loads(served.content)
        changed = served.media_type == DOCKER_LIST
        for child in document.get("manifests") or []:
            if isinstance(child, dict) and child.get("digest") in self._manifests:
                below = self.of(child["digest"])
                changed = changed or below.digest != child["digest"]
                child.update(mediaType=below.media_type, digest=below.digest, size=len(below.content))
        return _written(OCI_INDEX, document) if changed else served


def _manifest(served: Served) -> Served:
    """Itself where something in it is no part of an image, such as a plugin's config: OCI has no word for that."""
    document = json.loads(served.content)
    config, layers = document.get("config"), document.get("layers")
    parts = [config, *layers] if isinstance(layers, list) else []
    if not parts or not all(isinstance(part, dict) and _oci(part.get("mediaType")) for part in parts):
        return served
    for part in parts:
        part["mediaType"] = _oci(part["mediaType"])
    return _written(OCI_MANIFEST, document)


def _oci(media_type: Any) -> str | None:
    if isinstance(media_type, str) and media_type.startswith("application/vnd.oci."):
        return media_type
    return _TYPES.get(media_type) if isinstance(media_type, str) else None


def _written(media_type: str, document: dict[str, Any]) -> Served:
    content = json.dumps({**document, "mediaType": media_type}, separators=(",", ":")).encode()
    return Served(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", content)
