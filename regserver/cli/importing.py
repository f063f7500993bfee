"""``regserver import``: what an OCI image layout holds, pushed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from regserver.cli import layouts, moving
from regserver.cli.distribution import Repository, repository
from regserver.cli.exits import NOT_FOUND, USAGE, CommandError
from regserver.cli.layouts import CHUNK, Descriptor, Source, name_of
from regserver.cli.parsing import Command, argument
from regserver.cli.progress import Show, progress
from regserver.cli.session import Session
from regserver.cli.words import amount, plain, reference, size
from regserver.model.mediatypes import INDEXES, MANIFESTS, NON_DISTRIBUTABLE
from regserver.model.names import TAG

_TAG = re.compile(TAG, re.ASCII)


def import_layout(session: Session, options: argparse.Namespace) -> None:
    """Blobs before the manifests that list them, children before their index, and a tag when all of it is there."""
    source = layouts.source(options.source)
    descriptors = source.descriptors()
    chosen = _choose(source, descriptors, options.image.tag)
    plan = _Plan()
    for descriptor, tag in chosen:
        plan.add(source, descriptor, tag)
    _add_referrers(source, descriptors, plan)
    there = repository(session, options.image.registry, options.image.image)
    with progress() as show:
        pushed, count = _push_blobs(there, source, plan, show)
    for digest, media_type in plan.manifests.items():
        for name in plan.tags.get(digest) or [digest]:
            there.push_manifest(name, media_type, source.read(digest))
    tags = sorted(tag for names in plan.tags.values() for tag in names)
    if session.out.as_json:
        session.out.data({"tags": tags, "manifests": list(plan.manifests), "blobs": count, "bytes": pushed})
    named = ", ".join(f"{there.name}:{tag}" for tag in tags)
    session.out.say(f"{plain(named)}; {amount(count, 'blob')}, {size(pushed)} pushed")


@dataclass
class _Plan:
    """In the order in which it is pushed. ``manifests``: digest → media type; ``tags``: digest → names."""

    blobs: dict[str, None] = field(default_factory=dict)
    manifests: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)  # a layout that nobody has checked may list itself

    def add(self, source: Source, descriptor: Descriptor, tag: str | None = None) -> None:
        """A manifest after everything that it lists."""
        digest = str(descriptor.get("digest"))
        if tag is not None:
            self.tags.setdefault(digest, []).append(tag)
        if digest in self.begun:
            return
        self.begun.add(digest)
        document = _document(source, digest)
        for child in _listed(document, "manifests"):
            below = str(child.get("digest"))
            if not source.has(below):
                continue  # a sparse index: the registry decides whether it takes one
            if child.get("mediaType") in MANIFESTS | INDEXES or _is_manifest(source, below):
                self.add(source, child)
            else:
                self.blobs[below] = None
        config = document.get("config")
        for blob in [
            *([config] if isinstance(config, dict) else []),
            *_listed(document, "layers"),
            *_listed(document, "blobs"),
        ]:
            if blob.get("mediaType") not in NON_DISTRIBUTABLE or source.has(str(blob.get("digest"))):
                self.blobs[str(blob.get("digest"))] = None
        self.manifests[digest] = str(document.get("mediaType") or descriptor.get("mediaType"))


def _choose(source: Source, descriptors: Sequence[Descriptor], tag: str | None) -> list[tuple[Descriptor, str]]:
    """What is pushed under which tag: the only one, the one of that name, or all that have names."""
    named = [(one, short) for one in descriptors if (short := _tag_of(one)) is not None]
    if tag is None:
        if not named:
            raise CommandError(
                f"nothing in {source.path} has a name", USAGE, hint="say the tag: regserver import … REGISTRY/IMAGE:TAG"
            )
        return named
    by_name = [one for one, short in named if short == tag]
    tops = (
        by_name
        or [one for one, _ in named]
        or [one for one in descriptors if "subject" not in _document(source, str(one.get("digest")))]
    )
    if len({one.get("digest") for one in tops}) != 1:
        names = ", ".join(sorted(short for _, short in named)) or "none"
        raise CommandError(
            f"{source.path} holds {amount(len(tops), 'image')}, and none is named {tag}", NOT_FOUND if tops else USAGE,
            hint=f"its names: {plain(names)}; without :TAG all of them are pushed",
        )  # fmt: skip
    return [(tops[0], tag)]


def _tag_of(descriptor: Descriptor) -> str | None:
    """The tag in a descriptor's name, which may be a whole reference such as docker.io/library/alpine:3."""
    name = name_of(descriptor)
    if name is None:
        return None
    last = name.rpartition("/")[2]
    tag = last.rpartition(":")[2]
    return tag if _TAG.fullmatch(tag) else None


def _add_referrers(source: Source, descriptors: Sequence[Descriptor], plan: _Plan) -> None:
    """What has no name and refers to something that is pushed comes with it, and what refers to that."""
    waiting = [one for one in descriptors if name_of(one) is None]
    more = True
    while more:
        more = False
        for one in list(waiting):
            subject = _document(source, str(one.get("digest"))).get("subject")
            if isinstance(subject, dict) and subject.get("digest") in plan.manifests:
                plan.add(source, one)
                waiting.remove(one)
                more = True


def _push_blobs(there: Repository, source: Source, plan: _Plan, show: Show) -> tuple[int, int]:
    """Returns bytes and blobs that were sent; what the image has already is not."""
    pushed = count = done = 0
    sizes: dict[str, int] = {}
    for digest in plan.blobs:
        length, file = source.blob(digest)
        file.close()
        sizes[digest] = length
    total = sum(sizes.values())
    for digest, length in sizes.items():
        if not there.has_blob(digest):
            _, file = source.blob(digest)
            with file:
                there.push_blob(digest, length, _shown(file, done, total, show))
            pushed, count = pushed + length, count + 1
        done += length
    return pushed, count


def _shown(file: IO[bytes], done: int, total: int, show: Show) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        done += len(chunk)
        show("blobs", done, total)
        yield chunk


def _document(source: Source, digest: str) -> dict[str, Any]:
    try:
        document = json.loads(source.read(digest))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"{source.path}: {plain(digest)} is no manifest", USAGE)
    return document


def _is_manifest(source: Source, digest: str) -> bool:
    try:
        return _document(source, digest).get("schemaVersion") == 2
    except CommandError:
        return False


def _listed(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def import_(session: Session, options: argparse.Namespace) -> None:
    """A layout, or with ``--from`` a registry: what belongs to the other one is a mistake."""
    if options.source_registry is None:
        for name, flag in moving.FLAGS.items():
            if getattr(options, name):
                raise CommandError(f"{flag} needs --from", USAGE, hint=_HELP)
        if options.image is None:
            raise CommandError("say what and where to: a layout and REGISTRY/IMAGE, or --from", USAGE, hint=_HELP)
        return import_layout(session, options)
    if options.source is not None:
        raise CommandError(
            "with --from there is no layout to push", USAGE,
            hint=f"--into {plain(options.source)} puts all images into that registry",
        )  # fmt: skip
    return moving.import_registry(session, options)


_HELP = "see regserver import --help"

COMMANDS = (
    Command(
        "import",
        "push what an OCI layout holds, a folder or a tar, under its own tags or one",
        "regserver import api.tar my-images/api",
        import_,
        (
            argument(
                "source", metavar="DIR|FILE.tar", type=Path, nargs="?", help="as skopeo's oci: and oci-archive: make it"
            ),
            argument(
                "image",
                metavar="REGISTRY/IMAGE[:TAG]",
                type=reference,
                nargs="?",
                help="without :TAG, each by its name",
            ),
            *moving.ARGUMENTS,
        ),
        more=moving.EXAMPLES,
    ),
)
