"""Closed tables of words: what a page says after a change, and what the server's reasons mean to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# The address of a page names one of these; a text of its own cannot be put into it.
SAID: Final[Mapping[str, str]] = {
    "registry-created": "The registry is there. Push the first image into it.",
    "registry-deleted": "The registry is deleted. Its space comes back by itself.",
    "settings-saved": "Saved.",
    "tag-deleted": "The tag is deleted. Its layers stay until a collection takes them.",
    "tag-restored": "The tag names again what it named before.",
    "image-deleted": "All tags of the image are deleted.",
    "image-restored": "The tags that the deletion took are back.",
    "robot-changed": "The robot is changed.",
    "robot-deleted": "The robot is deleted, and its password is dead.",
    "collection-cancelled": "The collection ends before its next batch. What it has freed stays freed.",
}

REASONS: Final[Mapping[str, str]] = {
    "tag": "a tag leads to it",
    "keep_untagged": "the registry keeps untagged manifests",
    "lease": "a push in progress was promised that it is there",
    "untagged_window": "it was pushed lately and never had a tag; a collection waits for one",
    "undo_window": "its tag was deleted lately, and that can be undone",
    "other_registry": "another registry uses the same bytes",
    "none": "nothing: the next collection takes it",
}

ARTIFACTS: Final = (
    ("cosign", "Signature"),
    ("notary", "Signature"),
    ("sigstore", "Signature"),
    ("signature", "Signature"),
    ("spdx", "SBOM"),
    ("cyclonedx", "SBOM"),
    ("sbom", "SBOM"),
    ("syft", "SBOM"),
    ("in-toto", "Attestation"),
    ("attest", "Attestation"),
    ("provenance", "Attestation"),
    ("slsa", "Attestation"),
    ("sarif", "Scan report"),
    ("helm", "Helm chart"),
    ("wasm", "WebAssembly module"),
)


def kind_of(artifact_type: str | None) -> str:
    """What an artifact is, as far as its type says so."""
    text = (artifact_type or "").lower()
    return next((word for part, word in ARTIFACTS if part in text), "Artifact")
