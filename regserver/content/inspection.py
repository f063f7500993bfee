"""A manifest as people look at it: its platforms, the command that made each layer, and what refers to it.

Looking is no pull: nothing is noted, and nothing is promised. What stands in a config or an annotation was checked by
nobody, so every field is taken only if it has the shape that it should have.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from regserver.content.blobs import Blobs
from regserver.content.core import Core
from regserver.content.listing import Listing
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.names import Reference, Tag
from regserver.storage.blobs.port import LocalFile
from regserver.storage.catalog import manifests, scrub
from regserver.storage.catalog.manifests import ManifestRow
from regserver.storage.sql.port import Reader

MAX_CONFIG_BYTES = 2**20  # a larger config is an artifact's, not an image's
MAX_TEXT = 4096  # characters shown of a command or a comment
MAX_STEPS = 1000
MAX_DEPTH = 4  # of referrers of referrers
MAX_REFERRERS = 200  # in one tree

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inspected:
    """A manifest of this registry. ``document`` is its JSON, checked when it was pushed; ``damaged``: something that it
    needs has rotted."""

    digest: str
    media_type: str
    size: int
    document: Json
    damaged: bool

    @property
    def is_index(self) -> bool:
        return "manifests" in self.document

    @property
    def layers(self) -> list[Json]:
        return [*self.document.get("layers", []), *self.document.get("blobs", [])]

    @property
    def artifact_type(self) -> str | None:
        stated = self.document.get("artifactType")
        return stated if isinstance(stated, str) and stated else None


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of an index. ``about``: the digest that an attestation of BuildKit belongs to."""

    digest: str
    size: int
    platform: str | None
    about: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an image's history. ``layer`` None: it changed no file. ``created`` is whatever was claimed."""

    command: str
    created: str
    layer: Json | None


@dataclass(frozen=True, slots=True)
class Branch:
    """A referrer and what refers to it. ``descriptor`` as end-12 lists it."""

    descriptor: Json
    branches: list[Branch] = field(default_factory=list)


class Inspection:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._blobs = Blobs(core)
        self._listing = Listing(core)

    async def manifest(self, target: Target, reference: Reference) -> Inspected:
        """Raises RegistryError NOT_FOUND, also for one whose own bytes have rotted."""

        async def body(reader: Reader) -> tuple[ManifestRow, bytes, bool]:
            look = manifests.by_tag if isinstance(reference, Tag) else manifests.by_digest
            row = await look(reader, target, str(reference))
            content = await manifests.content(reader, row.repository_id, row.digest) if row else None
            if row is None or content is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            return row, content, await scrub.is_hollow(reader, row.repository_id, row.digest)

        row, content, damaged = await self._core.db.read(body)
        document = await asyncio.to_thread(json.loads, content)
        return Inspected(row.digest, row.media_type, row.size, document, damaged)

    async def config(self, target: Target, inspected: Inspected) -> Json | None:
        """An image's configuration; None where it has none that can be read."""
        descriptor = inspected.document.get("config")
        if descriptor is None or descriptor["size"] > MAX_CONFIG_BYTES:
            return None
        try:
            file = await self._blobs.open(target, Digest.parse(descriptor["digest"]))
        except RegistryError:  # left out of a sparse image, or rotten
            return None
        return await asyncio.to_thread(_load, file)

    async def platforms(self, target: Target, digests: Sequence[str]) -> dict[str, list[str]]:
        """What each of these manifests runs on, by digest; nothing where it is no image."""
        return {digest: await self._platforms(target, digest) for digest in dict.fromkeys(digests)}

    async def _platforms(self, target: Target, digest: str) -> list[str]:
        try:
            inspected = await self.manifest(target, Digest.parse(digest))
        except RegistryError:
            return []
        if inspected.is_index:
            stated = [child.platform for child in children(inspected.document) if child.about is None]
        else:
            stated = [platform_of(await self.config(target, inspected))]
        return list(dict.fromkeys(platform for platform in stated if platform))

    async def referrers(self, target: Target, digest: str) -> list[Branch]:
        """What refers to a manifest, as a tree: a signature of an SBOM hangs on the SBOM."""
        left = MAX_REFERRERS
        root: list[Branch] = []
        waiting = [(digest, root, 0)]
        seen = {digest}
        while waiting and left > 0:
            subject, branches, depth = waiting.pop(0)
            page = await self._listing.referrers(target, Digest.parse(subject), None, left, "")
            for descriptor in page.items:
                found = str(descriptor["digest"])
                branch = Branch(descriptor)
                branches.append(branch)
                if found not in seen and depth + 1 < MAX_DEPTH:
                    waiting.append((found, branch.branches, depth + 1))
                seen.add(found)
            left -= len(page.items)
        return root


def children(document: Json) -> list[Child]:
    """The entries of an index, images before attestations."""
    found = [_child(entry) for entry in document.get("manifests", [])]
    return sorted(found, key=lambda child: child.about is not None)


def _child(entry: Json) -> Child:
    annotations = _record(entry.get("annotations"))
    kind, about = annotations.get("vnd.docker.reference.type"), annotations.get("vnd.docker.reference.digest")
    stated = _record(entry.get("platform"))
    words = [_text(stated.get(name)) for name in ("os", "architecture", "variant")]
    platform = "/".join(word for word in words if word)
    return Child(entry["digest"], entry["size"], platform or None, _text(about) if _text(kind) else None)


def platform_of(config: Json | None) -> str | None:
    """What a config says that it runs on."""
    words = [_text((config or {}).get(name)) for name in ("os", "architecture", "variant")]
    return "/".join(word for word in words if word) or None


def steps(layers: list[Json], config: Json | None) -> list[Step]:
    """Each layer with the command that made it (image spec, "history"), and the commands that made none.

    A history that does not fit the layers says nothing about them: then they are listed without."""
    claimed = (config or {}).get("history")
    history = [_record(entry) for entry in claimed[:MAX_STEPS]] if isinstance(claimed, list) else []
    filled = sum(not _is_empty(entry) for entry in history)
    if filled != len(layers):
        return [Step("", "", layer) for layer in layers[:MAX_STEPS]]
    rest = iter(layers)
    return [
        Step(
            command(_text(entry.get("created_by"))),
            _text(entry.get("created")),
            None if _is_empty(entry) else next(rest),
        )
        for entry in history
    ]


def command(created_by: str) -> str:
    """The instruction, without what builders write around it."""
    text = created_by.strip().removesuffix("# buildkit").strip()
    if text.startswith("/bin/sh -c #(nop)"):
        return text.removeprefix("/bin/sh -c #(nop)").strip()
    shell = text.removeprefix("RUN ").removeprefix("/bin/sh -c ")
    return f"RUN {shell}" if "/bin/sh -c " in text[:16] else text


def notes(document: Json) -> dict[str, str]:
    return {str(name): value for name, value in _record(document.get("annotations")).items() if isinstance(value, str)}


def settings(config: Json | None) -> list[tuple[str, list[str]]]:
    """What a container of the image starts with, as (name, lines); what is not set is left out."""
    inner = _record((config or {}).get("config"))
    found: list[tuple[str, list[str]]] = []
    for title, name in _SETTINGS:
        lines = _lines(inner.get(name))
        if lines:
            found.append((title, lines))
    return found


_SETTINGS = (
    ("Entrypoint", "Entrypoint"),
    ("Command", "Cmd"),
    ("User", "User"),
    ("Working directory", "WorkingDir"),
    ("Ports", "ExposedPorts"),
    ("Volumes", "Volumes"),
    ("Environment", "Env"),
    ("Labels", "Labels"),
    ("Stop signal", "StopSignal"),
)


def _lines(value: Any) -> list[str]:
    match value:
        case str():
            return [value[:MAX_TEXT]] if value else []
        case list():
            return [_text(one) for one in value[:MAX_STEPS] if isinstance(one, str)]
        case dict():
            named = sorted(value.items())[:MAX_STEPS]
            return [f"{name}={_text(one)}" if isinstance(one, str) else str(name) for name, one in named]
        case _:
            return []


def _is_empty(entry: Json) -> bool:
    return entry.get("empty_layer") is True


def _record(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _load(file: LocalFile) -> Json | None:
    with os.fdopen(file.fd, "rb") as stream:
        content = stream.read(MAX_CONFIG_BYTES)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
