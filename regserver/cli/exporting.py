"""``regserver export``: an image, or all tags of one, as an OCI image layout."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regserver.cli import layouts
from regserver.cli.converting import Conversion
from regserver.cli.distribution import Absent, Repository, Served, repository, verified
from regserver.cli.exits import FAILED, NOT_FOUND, CommandError
from regserver.cli.layouts import Descriptor, Writing
from regserver.cli.parsing import Command, argument
from regserver.cli.progress import Show, progress
from regserver.cli.session import Session
from regserver.cli.words import amount, plain, reference, size
from regserver.errors import RegistryError
from regserver.model.digest import Digest
from regserver.model.mediatypes import NON_DISTRIBUTABLE


def export(session: Session, options: argparse.Namespace) -> None:
    """Manifests first, to know what there is; then the blobs; the index last, which makes it a layout."""
    wanted = options.image
    there = repository(session, wanted.registry, wanted.image)
    found = _Found()
    for tag in [wanted.tag] if wanted.tag else there.tags():
        _walk_tag(there, tag, found, referrers=options.referrers)
    if not found.named:
        raise CommandError(f"{plain(there.name)} has no tags", NOT_FOUND, hint="push something first")
    if not options.as_is:
        _convert(session, there, found)
    with layouts.writing(options.target) as layout, progress() as show:
        copied, count = _copy(there, found, layout, show)
        layout.finish([*found.named, *found.unnamed])
    for digest in found.absent:
        session.out.note(f"{plain(digest)} is not in the registry, and so not in the layout")
    if session.out.as_json:
        session.out.data({"manifests": found.named, "blobs": count, "bytes": copied})
    names = ", ".join(layouts.name_of(one) or "" for one in found.named)
    session.out.say(f"{plain(options.target)}: {plain(names)}; {amount(count, 'blob')}, {size(copied)} copied")


@dataclass
class _Found:
    """``blobs``: digest → size. ``absent``: what an index lists or a layer names, and the registry need not have."""

    manifests: dict[str, Served] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    named: list[Descriptor] = field(default_factory=list)
    unnamed: list[Descriptor] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def _walk_tag(there: Repository, tag: str, found: _Found, *, referrers: bool) -> None:
    try:
        root = there.manifest(tag)
    except Absent as error:
        hint = f"regserver tags list {plain(there.name)} shows its tags"
        raise CommandError(f"there is no {plain(there.name)}:{plain(tag)}", error.code, hint=hint) from None
    found.named.append({**_descriptor(root), "annotations": {layouts.NAME: tag}})
    for digest in _walk(there, root, found):
        if referrers:
            _walk_referrers(there, digest, found)


def _walk(there: Repository, served: Served, found: _Found) -> Iterator[str]:
    """Notes a manifest and all below it; yields the digests of those that were not known before."""
    if served.digest in found.manifests:
        return
    found.manifests[served.digest] = served
    document = _parsed(there, served)
    yield served.digest
    for child in _listed(document, "manifests"):
        try:
            below = there.manifest(_digest(there, child))
        except Absent:  # a sparse index, or an entry that is a blob
            _note_blob(there, child, found, optional=True)
            continue
        yield from _walk(there, below, found)
    config = document.get("config")
    for blob in [
        *([config] if isinstance(config, dict) else []),
        *_listed(document, "layers"),
        *_listed(document, "blobs"),
    ]:
        _note_blob(there, blob, found, optional=blob.get("mediaType") in NON_DISTRIBUTABLE)


def _walk_referrers(there: Repository, digest: str, found: _Found) -> None:
    for descriptor in there.referrers(digest):
        if descriptor.get("digest") in found.manifests:
            continue
        served = there.manifest(_digest(there, descriptor))
        found.unnamed.append(_descriptor(served))
        for below in list(_walk(there, served, found)):
            _walk_referrers(there, below, found)


def _note_blob(there: Repository, descriptor: dict[str, Any], found: _Found, *, optional: bool) -> None:
    digest, length = _digest(there, descriptor), descriptor.get("size")
    found.blobs[digest] = length if isinstance(length, int) else 0
    if optional:
        found.optional.add(digest)


def _convert(session: Session, there: Repository, found: _Found) -> None:
    """Docker's manifests become OCI's, which is what a layout is read for. Raises CommandError where that would part
    a signature from what it signs."""
    conversion = Conversion(found.manifests)
    named = [{**_descriptor(conversion.of(one["digest"])), "annotations": one["annotations"]} for one in found.named]
    if not (changed := conversion.changed):
        return
    if found.unnamed:
        hint = "add --as-is to keep its format and its digest; skopeo does not find it in a layout then"
        raise CommandError(
            f"{plain(there.name)} is in Docker's format, and others refer to its digest", FAILED, hint=hint
        )
    found.manifests = {served.digest: served for served in conversion.made.values()}
    found.named = named
    session.out.note(
        f"{amount(len(changed), 'manifest')} in Docker's format became OCI's, with a new digest; --as-is keeps it"
    )


def _copy(there: Repository, found: _Found, layout: Writing, show: Show) -> tuple[int, int]:
    """Returns bytes and blobs that were copied; what the layout has already is left as it is."""
    done, count, total = 0, 0, sum(found.blobs.values())
    for digest, length in found.blobs.items():
        if not layout.has(digest):
            try:
                chunks = there.blob(digest)
                layout.add(
                    digest, length, _shown(verified(digest, length, chunks, there.damaged(digest)), done, total, show)
                )
            except Absent:
                if digest not in found.optional:
                    raise
                found.absent.append(digest)
                continue
            count += 1
        done += length
    for served in found.manifests.values():
        if not layout.has(served.digest):
            layout.add(served.digest, len(served.content), [served.content])
    return done, count


def _shown(chunks: Iterator[bytes], done: int, total: int, show: Show) -> Iterator[bytes]:
    for chunk in chunks:
        done += len(chunk)
        show("blobs", done, total)
        yield chunk


def _descriptor(served: Served) -> Descriptor:
    return {"mediaType": served.media_type, "digest": served.digest, "size": len(served.content)}


def _parsed(there: Repository, served: Served) -> dict[str, Any]:
    try:
        document = json.loads(served.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise there.damaged(served.digest)
    return document


def _listed(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _digest(there: Repository, descriptor: dict[str, Any]) -> str:
    """What goes into a path is parsed first."""
    try:
        return str(Digest.parse(str(descriptor.get("digest"))))
    except RegistryError:
        raise CommandError(f"{plain(there.name)}: a manifest lists something without a digest", FAILED) from None


COMMANDS = (
    Command(
        "export",
        "write an image into an OCI layout: a folder, or one file if the name ends in .tar",
        "regserver export my-images/api:v1 api.tar",
        export,
        (
            argument("image", metavar="REGISTRY/IMAGE[:TAG]", type=reference, help="without :TAG all of its tags"),
            argument("target", metavar="DIR|FILE.tar", type=Path, help="new; a layout that is there is added to"),
            argument(
                "--as-is", action="store_true", help="keep Docker's format, which skopeo does not find in a layout"
            ),
            argument("--referrers", action="store_true", help="with signatures, SBOMs and whatever else refers to it"),
        ),
    ),
)
