"""What a registry may hold after a crash, known from its answers alone.

A change that was answered is done. One whose answer did not come is done or not, as a whole: both are allowed, nothing
else is, and whichever of them is found first is then the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCTETS = "application/octet-stream"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes) -> dict[str, Any]:
    return {"mediaType": OCTETS, "digest": digest_of(content), "size": len(content)}


@dataclass(frozen=True)
class Image:
    """A manifest with its config and layers, as bytes."""

    blobs: tuple[bytes, ...]

    @property
    def manifest(self) -> bytes:
        config, *layers = map(descriptor, self.blobs)
        document = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}
        return json.dumps(document).encode()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


@dataclass
class Tag:
    """``allowed``: what may be found under the name, None for nothing. ``busy``: a request about it is under way."""

    allowed: set[Image | None]
    busy: bool = False

    @property
    def image(self) -> Image | None:
        """What is certainly there."""
        return next(iter(self.allowed)) if len(self.allowed) == 1 else None


@dataclass
class Ledger:
    """``gone``: images whose delete by digest was answered; each is unlike every other, so none may be found again."""

    tags: dict[str, Tag] = field(default_factory=dict)
    gone: list[Image] = field(default_factory=list)
    pushes: int = 0
    deletes: int = 0

    def certain(self) -> list[tuple[str, Image]]:
        """Tags that are there, and about which nobody is asking anything."""
        return [(name, tag.image) for name, tag in self.tags.items() if tag.image is not None and not tag.busy]

    def begin(self, name: str, outcome: Image | None) -> None:
        tag = self.tags.setdefault(name, Tag({None}))
        tag.busy = True
        tag.allowed.add(outcome)

    def done(self, name: str, outcome: Image | None) -> None:
        """It was answered."""
        self.tags[name] = Tag({outcome})
        if outcome is None:
            self.deletes += 1
        else:
            self.pushes += 1

    def crashed(self) -> None:
        """Nobody waits for an answer any more."""
        for tag in self.tags.values():
            tag.busy = False

    def saw(self, name: str, content: bytes | None) -> Image | None:
        """Takes what was pulled under a name for the truth; AssertionError if it is neither of what it may be."""
        tag = self.tags[name]
        found = [image for image in tag.allowed if (image.manifest if image else None) == content]
        assert found, f"{name} holds {_short(content)} and not {_names(tag.allowed)}"
        self.tags[name] = Tag({found[0]})
        return found[0]


def _short(content: bytes | None) -> str:
    return "nothing" if content is None else digest_of(content)


def _names(images: Sequence[Image | None] | set[Image | None]) -> str:
    return " or ".join("nothing" if image is None else image.digest for image in images)
