"""Images made from nothing: real ones, which every client pulls and unpacks."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regserver.model.mediatypes import OCI_INDEX, OCI_MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLATFORM = "linux/amd64"


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or an index, its bytes, and those of everything below it."""

    reference: str  # as a client takes it: 127.0.0.1:40001/test-1/app:v1
    media_type: str
    content: bytes
    blobs: Mapping[str, bytes] = field(repr=False)  # digest → bytes; empty for an index
    children: Sequence[Image] = ()  # an index's, one for each platform

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    @property
    def manifest(self) -> Any:
        return json.loads(self.content)

    @property
    def layers(self) -> list[bytes]:
        """The layers' bytes, the lowest first."""
        return [self.blobs[layer["digest"]] for layer in self.manifest.get("layers", [])]

    @property
    def config(self) -> Any:
        return json.loads(self.blobs[self.manifest["config"]["digest"]])


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_image(reference: str, layers: Sequence[Mapping[str, bytes]], platform: str = PLATFORM) -> Image:
    """``layers``: in each the files by their paths. The same input gives the same digests."""
    tars = [_tar(files) for files in layers]
    packed = [gzip.compress(tar, mtime=0) for tar in tars]
    os_name, architecture, *variant = platform.split("/")
    config = _json(
        {
            "architecture": architecture,
            "os": os_name,
            **({"variant": variant[0]} if variant else {}),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
            "history": [{"created_by": f"layer {number}"} for number, _ in enumerate(tars, 1)],
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [_descriptor(LAYER, layer) for layer in packed],
    }
    return Image(reference, OCI_MANIFEST, _json(manifest), {digest_of(blob): blob for blob in (config, *packed)})


def make_index(reference: str, children: Mapping[str, Image]) -> Image:
    """``children`` by their platforms."""
    listed = []
    for platform, child in children.items():
        keys = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        listed.append({**_descriptor(child.media_type, child.content), "platform": keys})
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Image(reference, OCI_INDEX, _json(document), {}, tuple(children.values()))


def filling(seed: str, layers: int, size: int) -> list[dict[str, bytes]]:
    """So many layers of one file of ``size`` bytes each, which do not compress; the same for the same seed."""
    return [
        {f"data/{number}": random.Random(f"{seed} {number}").randbytes(size)}  # noqa: S311 - nothing is secret here
        for number in range(1, layers + 1)
    ]


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
