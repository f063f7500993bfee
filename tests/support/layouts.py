"""Images on disk, as OCI image layouts: what the real clients push, and what they pulled."""

import dataclasses
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
TAG = "made"
BLOCK = 2**25


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Layout:
    """An image layout folder with one tagged image or index, named `made`."""

    path: Path
    root: str  # digest of the tagged manifest or index

    def read(self, digest: str) -> bytes:
        algorithm, _, hexadecimal = digest.partition(":")
        return (self.path / "blobs" / algorithm / hexadecimal).read_bytes()

    def manifest(self, digest: str = "") -> Any:
        return json.loads(self.read(digest or self.root))

    @property
    def config(self) -> str:
        return str(self.manifest()["config"]["digest"])

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.manifest()["layers"]]

    @property
    def digests(self) -> set[str]:
        """Everything that the root reaches."""
        return set(reachable(self, self.root))


def reachable(layout: Layout, digest: str) -> list[str]:
    """`digest` and all below it; every file is read and must hash to its name (AssertionError)."""
    content = layout.read(digest)
    assert digest_of(content) == digest, f"the bytes of {digest} changed"
    document = json.loads(content)
    found = [digest]
    for child in document.get("manifests", []):
        found += reachable(layout, child["digest"])
    for blob in [document[key] for key in ("config",) if key in document] + document.get("layers", []):
        assert digest_of(layout.read(blob["digest"])) == blob["digest"], f"the bytes of {blob['digest']} changed"
        found.append(blob["digest"])
    return found


def open_layout(path: Path) -> Layout:
    """What a client pulled into a folder; its only (or first) image."""
    return Layout(path, json.loads((path / "index.json").read_text())["manifests"][0]["digest"])


# ---------------------------------------------------------------- making them


def make_tar(files: Mapping[str, bytes]) -> bytes:
    """A tar with these files, the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class _Writer:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
        digest = digest_of(content)
        (self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def document(self, media_type: str, document: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        content = {"schemaVersion": 2, "mediaType": media_type, **document}
        return self.blob(media_type, json.dumps(content).encode(), **more)

    def image(self, layers: Sequence[bytes], architecture: str, *, compress: bool) -> dict[str, Any]:
        platform = {"architecture": architecture, "os": "linux"}
        config = {**platform, "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}}
        pressed = [gzip.compress(layer, mtime=0) for layer in layers] if compress else layers
        return self.document(
            IMAGE,
            {
                "config": self.blob(CONFIG, json.dumps(config).encode()),
                "layers": [self.blob(LAYER_GZIP if compress else LAYER, layer) for layer in pressed],
            },
            platform=platform,
        )

    def finish(self, root: dict[str, Any]) -> Layout:
        named = {**root, "annotations": {"org.opencontainers.image.ref.name": TAG}}
        named.pop("platform", None)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        return Layout(self.path, root["digest"])


def make_layers(seed: str, count: int, size: int) -> list[bytes]:
    """Layers of one file each, `size` bytes that do not compress; another seed gives other bytes."""
    source = random.Random(seed)
    layers = []
    for number in range(count):
        block = source.randbytes(min(size, BLOCK))  # repeats lie far beyond what gzip looks back
        layers.append(make_tar({f"layer-{number}/{seed}.bin": (block * (size // len(block) + 1))[:size]}))
    return layers


def make_image(path: Path, seed: str, *, layers: int = 2, size: int = 20_000, compress: bool = True) -> Layout:
    writer = _Writer(path)
    return writer.finish(writer.image(make_layers(seed, layers, size), "amd64", compress=compress))


def make_index(path: Path, seed: str, architectures: Sequence[str] = ("amd64", "arm64")) -> Layout:
    """A multi-platform index: an image with layers of its own per architecture."""
    writer = _Writer(path)
    images = [writer.image(make_layers(f"{seed}-{name}", 2, 5_000), name, compress=True) for name in architectures]
    return writer.finish(writer.document(INDEX, {"manifests": images}))


def docker_archive(layout: Layout, target: Path, name: str) -> Path:
    """The same image as `docker load` takes it: uncompressed layers, the same config bytes."""
    names = []
    with tarfile.open(target, "w") as archive:

        def add(member: str, content: bytes) -> None:
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))

        config_name = layout.config.removeprefix("sha256:") + ".json"
        add(config_name, layout.read(layout.config))
        for number, layer in enumerate(layout.manifest()["layers"]):
            content = layout.read(layer["digest"])
            add(f"{number}.tar", gzip.decompress(content) if layer["mediaType"] == LAYER_GZIP else content)
            names.append(f"{number}.tar")
        listing = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
        add("manifest.json", json.dumps(listing).encode())
    return target
