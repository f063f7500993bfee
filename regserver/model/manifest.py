"""Manifests as the registry reads them: strict JSON in, edges and a few facts out; the bytes are kept as they came.

Sources: OCI image spec (manifest, image index, descriptor), Docker schema 2. Edges are read from ``config``,
``layers``, ``blobs`` and ``manifests`` whatever the media type says, so an unknown type cannot hide what it needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from regserver.errors import ErrorCode, RegistryError
from regserver.model import mediatypes
from regserver.model.digest import Digest

MAX_DEPTH = 100
MAX_SIZE = 2**63 - 1
MAX_EDGES = 20_000
MAX_DIGITS = 20
MAX_VALUES = (
    250_000  # 20,000 descriptors with platform and annotations have fewer; in memory each takes 100 bytes or so
)

_FIELDS = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject"),
        *("annotations", "digest", "size"),
    )
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one content says of another (image spec, "Content Descriptors"). ``size`` in bytes."""

    media_type: str
    digest: Digest
    size: int

    @property
    def distributable(self) -> bool:
        return self.media_type not in mediatypes.NON_DISTRIBUTABLE


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of a parsed manifest. ``content`` is exactly what was sent.

    ``blobs`` are the config and the layers; ``entries`` an index's list, each met by a manifest, else by a blob.
    ``artifact_type`` is the field, or for an image manifest without it the config's media type (end-12a).
    """

    content: bytes
    media_type: str
    blobs: tuple[Descriptor, ...]
    entries: tuple[Descriptor, ...]
    subject: Digest | None
    artifact_type: str | None
    annotations: dict[str, str]

    @property
    def is_index(self) -> bool:
        return self.media_type in mediatypes.INDEXES


def parse_manifest(content: bytes, content_type: str | None) -> Manifest:
    """Reads a manifest strictly.

    Raises RegistryError MANIFEST_INVALID, with the reason in its message, for anything that is not one JSON object of
    sound descriptors, for an ambiguous one (CVE-2021-41190), and for Docker schema 1.
    """
    document = _load(content)
    _refuse_lookalikes(document)
    media_type = _media_type(document, content_type)
    config = _descriptor(document["config"], "config") if document.get("config") is not None else None
    layers = _descriptors(document, "layers") + _descriptors(document, "blobs")
    subject = _descriptor(document["subject"], "subject").digest if document.get("subject") is not None else None
    blobs = ((config,) if config else ()) + layers
    entries = _descriptors(document, "manifests")
    if len(blobs) + len(entries) > MAX_EDGES:
        raise _invalid(f"more than {MAX_EDGES} references")
    _refuse_two_sizes(blobs + entries)
    return Manifest(
        content=content,
        media_type=media_type,
        blobs=blobs,
        entries=entries,
        subject=subject,
        artifact_type=_artifact_type(document, config),
        annotations=_annotations(document),
    )


def _invalid(reason: str) -> RegistryError:
    return RegistryError(ErrorCode.MANIFEST_INVALID, {"reason": reason}, message=f"manifest invalid: {reason}")


def _load(content: bytes) -> dict[str, Any]:
    # Before parsing: 4 MiB of "{}," would become 150 MB. Text between quotes counts too, so it is never too low.
    if sum(map(content.count, (b",", b"{", b"["))) > MAX_VALUES:
        raise _invalid(f"more than {MAX_VALUES} values")
    try:
        text = content.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)
    except RecursionError:
        raise _invalid("nested too deeply") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise _invalid(f"not JSON ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise _invalid("not a JSON object")
    _refuse_depth(document)
    _refuse_lone_surrogates(content, document)
    return document


def _refuse_lone_surrogates(content: bytes, document: dict[str, Any]) -> None:
    if b"\\ud" not in content and b"\\uD" not in content:
        return
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid("a string holds a lone surrogate") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # CVE-2021-41190: a key given twice is read differently by different parsers.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _invalid("a key is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise _invalid(f"{name[:16]} is not JSON")


def _integer(digits: str) -> int:
    # RFC 8259 §6: beyond 64 bits parsers differ; and a long one costs the square of its length.
    if len(digits) > MAX_DIGITS:
        raise _invalid("an integer of more than 64 bits")
    return int(digits)


def _refuse_lookalikes(document: dict[str, Any]) -> None:
    # CVE-2021-41190: Go's decoder matches keys without regard to case, so "Layers" would be layers to most clients.
    for key in document:
        meant = _FIELDS.get(key.casefold(), key)
        if meant != key:
            raise _invalid(f"a key differs from {meant} only in case")


def _refuse_depth(document: Any) -> None:
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _invalid("nested too deeply")
        level = [child for node in level for child in _children(node)]


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [value for value in values if isinstance(value, dict | list)]


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise _invalid(f"{field} is not a string of sane length")
    return value


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    stated = mediatypes.bare(content_type) if content_type else ""
    inner = document.get("mediaType")
    if inner is not None:
        inner = mediatypes.bare(_text(inner, "mediaType"))
        if stated and inner != stated:
            raise _invalid("mediaType differs from Content-Type")
    if {stated, inner} & mediatypes.DOCKER_SCHEMA1 or document.get("schemaVersion") == 1:
        raise _invalid("Docker schema 1 is not accepted; push with a client of 2017 or later")
    # CVE-2021-41190: a document must not be both, whatever its type says.
    both = document.get("manifests") is not None and (
        document.get("layers") is not None or document.get("config") is not None
    )
    if both:
        raise _invalid("both an index (manifests) and an image (config, layers)")
    media_type = stated or inner or (mediatypes.OCI_INDEX if "manifests" in document else mediatypes.OCI_MANIFEST)
    if not mediatypes.is_media_type(media_type):
        raise _invalid("the media type is not of the form type/subtype")
    _refuse_wrong_shape(document, media_type)
    return media_type


def _refuse_wrong_shape(document: dict[str, Any], media_type: str) -> None:
    known = media_type in mediatypes.MANIFESTS or media_type in mediatypes.INDEXES
    if not known:
        return
    version = document.get("schemaVersion")
    if version is not None and (not isinstance(version, int) or version != 2):
        raise _invalid("schemaVersion is not 2")
    if media_type in mediatypes.MANIFESTS and document.get("config") is None:
        raise _invalid("an image manifest without config")
    if media_type in mediatypes.INDEXES and not isinstance(document.get("manifests"), list):
        raise _invalid("an index without its list of manifests")


def _descriptors(document: dict[str, Any], field: str) -> tuple[Descriptor, ...]:
    listed = document.get(field)
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise _invalid(f"{field} is not a list")
    return tuple(_descriptor(item, f"{field}[{place}]") for place, item in enumerate(listed))


def _descriptor(value: Any, field: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _invalid(f"{field} is not a descriptor")
    _refuse_lookalikes(value)
    size = value.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
        raise _invalid(f"{field}.size is not a whole number of bytes")
    try:
        digest = Digest.parse(_text(value.get("digest"), f"{field}.digest"))
    except RegistryError:
        raise _invalid(f"{field}.digest is not a sha256 or sha512 digest") from None
    media_type = value.get("mediaType")
    return Descriptor(_text(media_type, f"{field}.mediaType") if media_type is not None else "", digest, size)


def _refuse_two_sizes(descriptors: tuple[Descriptor, ...]) -> None:
    sizes: dict[Digest, int] = {}
    for descriptor in descriptors:
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise _invalid("one digest is given two sizes")


def _artifact_type(document: dict[str, Any], config: Descriptor | None) -> str | None:
    stated = document.get("artifactType")
    text = (_text(stated, "artifactType") if stated is not None else "") or (config.media_type if config else "")
    if "\0" in text:  # the type becomes a column, and not every engine keeps this in a text
        raise _invalid("the artifact's type holds a NUL")
    return text or None


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    annotations = document.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict):
        raise _invalid("annotations is not an object")
    if any(not isinstance(value, str) for value in annotations.values()):
        raise _invalid("an annotation is not a string")
    return annotations
