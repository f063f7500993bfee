"""From one registry into another: a tag with everything that it names, and what is attached to that.

Blobs before the manifest that lists them, children before their index, the tag last: a tag that is there is whole, so
that a copy that was interrupted goes on where it ended. Bytes go through memory in pieces and are hashed on their way.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from regserver.cli.distribution import Absent, Repository, Served, verified
from regserver.cli.exits import FAILED, INTERRUPTED, UNREACHABLE, CommandError
from regserver.cli.progress import Show
from regserver.cli.remote import Remote, is_digest
from regserver.cli.words import plain
from regserver.model.mediatypes import NON_DISTRIBUTABLE

# Distribution spec 1.1, "Referrers Tag Schema", and cosign's: <algorithm>-<hex>, or the same with .sig, .att, .sbom.
_ATTACHED = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(?:\.[a-zA-Z0-9._-]*)?")
_DEEPEST = 16  # indexes of indexes
_WAITS = (1, 2, 4)  # seconds before a blob is sent again


@dataclass
class Tally:
    """What was done so far. Counted by several threads."""

    show: Show
    copied: int = 0
    there: int = 0
    kept: int = 0
    blobs: int = 0
    bytes: int = 0
    absent: list[str] = field(default_factory=list)
    _ahead: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, number: int = 1) -> None:
        with self._lock:
            setattr(self, kind, getattr(self, kind) + number)

    def expect(self, size: int) -> None:
        with self._lock:
            self._ahead += size

    def move(self, size: int) -> None:
        with self._lock:
            self.bytes += size
            self.show("blobs", self.bytes, max(self._ahead, self.bytes))


class Crew:
    """Threads for tags, and others for their blobs: a tag waits for blobs, and a blob for nothing."""

    def __init__(self, jobs: int) -> None:
        self.tags = ThreadPoolExecutor(jobs, "tags")
        self.blobs = ThreadPoolExecutor(jobs, "blobs")
        self._stopped = threading.Event()

    def stop(self) -> None:
        """What runs ends at its next piece; what waits does not begin."""
        self._stopped.set()
        for pool in (self.tags, self.blobs):
            pool.shutdown(wait=True, cancel_futures=True)

    def look(self) -> None:
        """Raises CommandError where all should end."""
        if self._stopped.is_set():
            raise CommandError("interrupted", INTERRUPTED)


class ImageCopy:
    """One image of the source. ``tags`` are all that it has there, ``chosen`` those that are copied."""

    def __init__(
        self, source: Remote, name: str, target: Repository, tags: Sequence[str], chosen: Sequence[str],
        crew: Crew, tally: Tally, *, keep: bool,
    ) -> None:  # fmt: skip
        self.name, self.chosen = name, chosen
        self._source, self._target, self._crew, self._tally, self._keep = source, target, crew, tally, keep
        self._attached = _attached(set(tags) - set(chosen))
        self._lock = threading.Lock()  # of the two below: they spare work, and nothing relies on them
        self._blobs: dict[str, Future[None]] = {}
        self._taken: set[str] = set()  # attached tags and referrers that some thread has begun

    def copy_tag(self, tag: str) -> None:
        """Raises CommandError, then the tag at the target names what it did before."""
        self._crew.look()
        digest = self._source.digest(self.name, tag) or self._source.manifest(self.name, tag).digest
        there = self._target.digest(tag)
        if there is not None and there != digest and self._keep:
            self._tally.add("kept")
            return
        if there != digest:
            self._copy_tree(digest, tag)
        self._tally.add("there" if there == digest else "copied")
        self._copy_attached(digest)

    def _copy_tree(self, digest: str, name: str) -> None:
        """The manifest under ``name``, a tag or its own digest, after all below it."""
        for served in self._tree(digest, 0):
            is_root = served.digest == digest
            if self._target.digest(served.digest) != served.digest:
                self._copy_blobs(served)
            elif not is_root or name == digest:
                continue
            self._target.push_manifest(name if is_root else served.digest, served.media_type, served.content)

    def _tree(self, digest: str, depth: int) -> Iterator[Served]:
        """Children before their index. What the source lacks is left to the target to take or to refuse."""
        if depth > _DEEPEST:
            raise CommandError(f"{self.name}: {digest} lists indexes too deep", FAILED)
        self._crew.look()
        served = self._source.manifest(self.name, digest)
        for child in _listed(_parsed(self.name, served), "manifests"):
            try:
                yield from self._tree(_digest(self.name, child), depth + 1)
            except Absent:
                self._wait([self._blob(child, optional=True)])  # an index may list blobs: a build's cache does
        yield served

    def _copy_blobs(self, served: Served) -> None:
        document = _parsed(self.name, served)
        config = document.get("config")
        parts = [*([config] if isinstance(config, dict) else []), *_listed(document, "layers"),
                 *_listed(document, "blobs")]  # fmt: skip
        self._wait([self._blob(one, optional=one.get("mediaType") in NON_DISTRIBUTABLE) for one in parts])

    def _wait(self, blobs: Iterable[Future[None]]) -> None:
        for one in blobs:
            one.result()

    def _blob(self, descriptor: dict[str, Any], *, optional: bool) -> Future[None]:
        """A layer that several tags share is copied once."""
        digest, size = _digest(self.name, descriptor), descriptor.get("size")
        if not isinstance(size, int) or size < 0:
            raise CommandError(f"{self.name}: a manifest gives {digest} no size", FAILED)
        with self._lock:
            if digest not in self._blobs:
                self._blobs[digest] = self._crew.blobs.submit(self._copy_blob, digest, size, optional)
            return self._blobs[digest]

    def _copy_blob(self, digest: str, size: int, optional: bool) -> None:
        for wait in (*_WAITS, None):
            self._crew.look()
            try:
                return self._copy_blob_once(digest, size)
            except Absent as error:
                if not optional:
                    raise CommandError(f"{self.name}: the source lacks {digest}", error.code) from None
                with self._lock:
                    self._tally.absent.append(digest)
                return None
            except CommandError as error:
                if error.code != UNREACHABLE or wait is None:
                    raise
            time.sleep(wait)
        return None

    def _copy_blob_once(self, digest: str, size: int) -> None:
        if self._target.has_blob(digest) or (path := self._target.begin_blob(digest)) is None:
            return
        self._tally.expect(size)
        chunks = self._source.blob(self.name, digest)
        checked = verified(digest, size, chunks, self._source.damaged(self.name, digest))
        self._target.finish_blob(path, size, self._moved(checked))
        self._tally.add("blobs")

    def _moved(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._crew.look()
            self._tally.move(len(chunk))
            yield chunk

    def _copy_attached(self, digest: str) -> None:
        """Signatures, SBOMs and whatever else refers to the manifest or to one below it, and what refers to those."""
        if self._source.referrers(self.name, digest) is None and not self._attached:
            return  # such a source has them under tags, and these are copied as tags
        for served in self._tree(digest, 0):
            for referrer in self._source.referrers(self.name, served.digest) or []:
                if self._take(referrer):
                    self._copy_tree(referrer, referrer)
                    self._copy_attached(referrer)
            for tag in self._attached.get(served.digest, []):
                if self._take(tag):
                    self.copy_tag(tag)

    def _take(self, name: str) -> bool:
        with self._lock:
            is_new = name not in self._taken
            self._taken.add(name)
        return is_new


def _attached(tags: Iterable[str]) -> dict[str, list[str]]:
    """digest → tags whose names say that they belong to it."""
    found: dict[str, list[str]] = {}
    for tag in sorted(tags):
        if match := _ATTACHED.fullmatch(tag):
            found.setdefault(f"{match[1]}:{match[2]}", []).append(tag)
    return found


def _parsed(name: str, served: Served) -> dict[str, Any]:
    try:
        document = json.loads(served.content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"{name}: {served.digest} is no manifest", FAILED)
    return document


def _listed(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _digest(name: str, descriptor: dict[str, Any]) -> str:
    """What goes into a path is parsed first."""
    digest = str(descriptor.get("digest"))
    if not is_digest(digest):
        raise CommandError(f"{name}: a manifest lists {plain(digest[:80])}, which is no digest", FAILED)
    return digest
