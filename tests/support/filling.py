"""Fills a catalog by the million rows, for `benchmarks/scale.py`: what years of pushes leave, through SQL in bulk.

Every row refers to what it must (a last check asks the database); blobs have no files but for the configs of the images
that are looked at. The first registry is the largest and its first image too; all others are alike.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regserver.model import mediatypes
from regserver.model.digest import Digest
from regserver.model.ids import new_id
from regserver.storage.blobs.layout import Layout
from regserver.storage.catalog import counts

TAGS_PER_IMAGE = 10  # of these the last is an index of two platforms, and the one before it is signed
MAIN_TAGS = 40  # of the image that is looked at, in every registry but the largest
BLOBS_PER_TAG = 10
SHARED = 2  # blobs of an image's first tag that all of its tags use
LARGEST_SHARE = 10  # one tag in so many belongs to the largest registry
LARGEST_IMAGE_SHARE = 10  # and one in so many of those to its largest image
ROBOTS, JOBS, REPORT_ITEMS, TOKENS = 5, 20, 200, 100
LARGEST_JOBS, LARGEST_EVENTS = 500, 500
YEAR_MS = 365 * 86_400_000
FAR = 2**62  # a time or an epoch that does not come
ROWS = 50_000  # of one INSERT

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Size:
    registries: int
    tags: int
    blobs: int


@dataclass
class Sample:
    """What the parameters of paths may be, all of one registry. ``tags``: of ``image``."""

    registry_id: str
    registry: str
    image: str = ""
    tags: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    job_id: str = ""
    robot_id: str = ""
    event_id: str = ""


@dataclass
class Filled:
    """The largest registry, some of the others, a token, and how many rows each table holds."""

    largest: Sample
    others: list[Sample]
    token_id: str
    rows: dict[str, int]

    @classmethod
    def parse(cls, text: str) -> Filled:
        """What ``dataclasses.asdict`` and JSON made of one."""
        known = json.loads(text)
        others = [Sample(**other) for other in known["others"]]
        return cls(Sample(**known["largest"]), others, known["token_id"], known["rows"])


def identity(prefix: str, ms: int) -> str:
    """An id as it would have been made at that time."""
    value = (ms << 80) | random.getrandbits(80)
    return f"{prefix}_{base64.b32hexencode(value.to_bytes(16, 'big')).decode().rstrip('=').lower()}"


def sha(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Filler:
    def __init__(self, root: Path, size: Size, samples: int) -> None:
        self._layout = Layout(root)
        self._size = size
        self._db = sqlite3.connect(root / "catalog.sqlite3", isolation_level=None)
        self._now = time.time_ns() // 1_000_000
        self._rows: dict[str, list[Row]] = {}
        self._columns: dict[str, str] = {}
        names = self._db.execute("SELECT id, name FROM registries ORDER BY name").fetchall()
        self._registries = [Sample(*row) for row in names]
        self._used = dict.fromkeys((sample.registry_id for sample in self._registries), 0)
        self._held: dict[int, tuple[int, int]] = {}
        self._shown = {sample.registry_id for sample in self._registries[: samples + 1]}
        self._samples = samples

    def fill(self) -> Filled:
        """Takes minutes at full size, and says how far it is."""
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -1000000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("BEGIN")
        self._tenants()
        for number, (sample, image, tags) in enumerate(self._images(), start=1):
            self._image(number, sample, image, tags)
            if number % 500 == 0:
                print(f"  {number:,} images, {number * TAGS_PER_IMAGE:,} tags or more", flush=True)
        self._flush(0)
        self._derived()
        self._db.execute("COMMIT")
        print("  looking for rows that refer to nothing", flush=True)
        if broken := self._db.execute("PRAGMA foreign_key_check").fetchone():
            raise SystemExit(f"the filled catalog is broken: {broken}")
        self._db.execute("PRAGMA journal_mode = WAL")
        tables = [row[0] for row in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        token = str(self._db.execute("SELECT max(id) FROM api_tokens").fetchone()[0])
        self._db.close()
        return Filled(self._registries[0], self._registries[1 : self._samples + 1], token, rows)

    def _images(self) -> Iterator[tuple[Sample, str, int]]:
        """(registry, image, number of tags), the repositories' ids count from 1 in this order."""
        largest, others = self._registries[0], self._registries[1:]
        share = self._size.tags // LARGEST_SHARE
        yield largest, "team/monorepo", share // LARGEST_IMAGE_SHARE
        share -= share // LARGEST_IMAGE_SHARE
        for number in range(share // TAGS_PER_IMAGE):
            yield largest, f"team/service-{number}", TAGS_PER_IMAGE
        rest = self._size.tags - self._size.tags // LARGEST_SHARE
        for number in range(len(others)):
            yield others[number], "main", MAIN_TAGS
            rest -= MAIN_TAGS
        for number in range(rest // TAGS_PER_IMAGE):
            yield others[number % len(others)], f"app-{number // len(others)}", TAGS_PER_IMAGE

    # ---------------------------------------------------------------- rows

    def _add(self, table: str, columns: str, row: Row) -> None:
        self._columns[table] = columns
        self._rows.setdefault(table, []).append(row)
        if len(self._rows[table]) >= ROWS:
            self._flush(ROWS)

    def _flush(self, least: int) -> None:
        for table, rows in self._rows.items():
            if len(rows) >= least and rows:
                marks = ", ".join("?" * len(rows[0]))
                self._db.executemany(f"INSERT INTO {table} ({self._columns[table]}) VALUES ({marks})", rows)
                rows.clear()

    def _tenants(self) -> None:
        for sample in self._registries:
            self._robots(sample)
            self._jobs(sample, LARGEST_JOBS if sample is self._registries[0] else JOBS)
        for number in range(TOKENS):
            row = (new_id("tok"), f"token {number}", "read", f"{number:064}", self._now)
            self._add("api_tokens", "id, name, scopes, hash, created_at", row)

    def _robots(self, sample: Sample) -> None:
        key_id, claims = self._db.execute("SELECT key_id, claims FROM credentials LIMIT 1").fetchone()
        columns = "id, registry_id, username, actions, version, key_id, claims, created_at, name"
        for number in range(ROBOTS - 1):
            sample.robot_id, name = new_id("rob"), f"r{number}"
            who = (sample.robot_id, sample.registry_id, f"robot${sample.registry}+{name}")
            self._add("credentials", columns, (*who, "pull", 1, key_id, claims, self._now, name))

    def _jobs(self, sample: Sample, count: int) -> None:
        columns = "id, registry_id, status, phase, report, found, started_at, completed_at"
        item = {
            "kind": "blob",
            "image": None,
            "digest": "sha256:" + "0" * 64,
            "size": 1,
            "reason": "no repository links it",
        }
        found = json.dumps({"items": [item] * REPORT_ITEMS})
        for number in range(count):
            sample.job_id = identity("gc", self._now - YEAR_MS + number)
            row = (sample.job_id, sample.registry_id, "completed", "done", '{"dry_run": true}', found)
            self._add("gc_jobs", columns, (*row, self._now, self._now))

    def _image(self, repository: int, sample: Sample, image: str, tags: int) -> None:
        self._add("repositories", "id, registry_id, name", (repository, sample.registry_id, image))
        is_shown, before = sample.registry_id in self._shown and not sample.image, self._used[sample.registry_id]
        shared: list[tuple[str, int]] = []
        for number in range(tags):
            tag, at = f"v{number}", self._now - random.randrange(YEAR_MS)
            blobs = [self._config(repository, number, at, keep=is_shown)]
            blobs += [
                (f"sha256:{random.randbytes(32).hex()}", random.randrange(10**8)) for _ in range(BLOBS_PER_TAG - 1)
            ]
            shared = shared or blobs[-SHARED:]
            for digest, size in blobs:
                self._blob(repository, sample, digest, size)
            used = [blob for blob in shared if blob not in blobs]
            top, _ = self._pushed(repository, sample, number, blobs, used, at)
            self._add("tags", "repository_id, name, digest, updated_at", (repository, tag, top, at))
            many = LARGEST_EVENTS if sample is self._registries[0] and is_shown and number < TAGS_PER_IMAGE else 2
            for _ in range(many):
                row = (repository, tag, top, "robot$" + sample.registry, at, 1)
                self._add("tag_events", "repository_id, name, digest, subject, at, epoch", row)
            self._line(sample, image, tag, top, at)
            if is_shown:
                sample.tags.append(tag)
                sample.digests.append(random.choice([top, blobs[1][0], shared[0][0]]))
        self._held[repository] = tags, self._used[sample.registry_id] - before
        if is_shown:
            sample.image = image

    def _config(self, repository: int, number: int, at: int, *, keep: bool) -> tuple[str, int]:
        """A config as docker writes one, so that a tag's platform can be read. Only what is looked at gets a file."""
        document = {"os": "linux", "architecture": "arm64", "created": at, "number": [repository, number]}
        content = json.dumps(document).encode()
        digest = sha(content)
        if keep:
            file = self._layout.published(self._key(digest), Digest.parse(digest))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return digest, len(content)

    @staticmethod
    def _key(digest: str) -> str:
        return hashlib.md5(digest.encode(), usedforsecurity=False).hexdigest()

    def _blob(self, repository: int, sample: Sample, digest: str, size: int) -> None:
        self._add("blobs", "digest, size, key", (digest, size, self._key(digest)))
        row = (repository, digest, sample.registry_id)
        self._add("repository_blobs", "repository_id, digest, registry_id", row)
        self._used[sample.registry_id] += size

    def _pushed(
        self,
        repository: int,
        sample: Sample,
        number: int,
        blobs: list[tuple[str, int]],
        shared: list[tuple[str, int]],
        at: int,
    ) -> tuple[str, bytes]:
        """What a tag names: an image; or an index of two; or an image that a signature refers to."""
        kind = number % TAGS_PER_IMAGE
        if kind == TAGS_PER_IMAGE - 1:
            half = len(blobs) // 2
            parts = [self._manifest(repository, sample, part + shared, at) for part in (blobs[:half], blobs[half:])]
            return self._index(repository, sample, parts, at)
        top = self._manifest(repository, sample, blobs + shared, at)
        if kind == TAGS_PER_IMAGE - 2:
            self._manifest(repository, sample, blobs[-1:], at, subject=top)
        return top

    def _manifest(
        self,
        repository: int,
        sample: Sample,
        blobs: list[tuple[str, int]],
        at: int,
        subject: tuple[str, bytes] | None = None,
    ) -> tuple[str, bytes]:
        layer = "application/vnd.oci.image.layer.v1.tar+gzip"
        described = [{"mediaType": layer, "digest": digest, "size": size} for digest, size in blobs]
        document = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": described[0]}
        document["layers"] = described[1:]
        if subject:
            described_subject = {"mediaType": mediatypes.OCI_MANIFEST, "digest": subject[0], "size": len(subject[1])}
            document |= {"subject": described_subject, "artifactType": "application/spdx+json"}
        content = json.dumps(document).encode()
        digest = self._stored(repository, sample, content, mediatypes.OCI_MANIFEST, at, subject[0] if subject else None)
        for blob, _ in blobs:
            self._add("manifest_blobs", "repository_id, manifest, digest", (repository, digest, blob))
        return digest, content

    def _index(self, repository: int, sample: Sample, parts: list[tuple[str, bytes]], at: int) -> tuple[str, bytes]:
        platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}]
        entries = [
            {"mediaType": mediatypes.OCI_MANIFEST, "digest": digest, "size": len(content), "platform": platform}
            for (digest, content), platform in zip(parts, platforms, strict=True)
        ]
        content = json.dumps({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}).encode()
        digest = self._stored(repository, sample, content, mediatypes.OCI_INDEX, at, None)
        for child, _ in parts:
            self._add("manifest_children", "repository_id, parent, child", (repository, digest, child))
        return digest, content

    def _stored(
        self, repository: int, sample: Sample, content: bytes, media_type: str, at: int, subject: str | None
    ) -> str:
        digest = sha(content)
        columns = "repository_id, digest, media_type, size, subject, was_held, pushed_at, pushed_epoch, content"
        self._add("manifests", columns, (repository, digest, media_type, len(content), subject, 1, at, 1, content))
        self._used[sample.registry_id] += len(content)
        return digest

    def _line(self, sample: Sample, image: str, tag: str, digest: str, at: int) -> None:
        """The audit log's."""
        what = "action, registry_id, registry, image, reference, digest, address, request_id, result"
        sample.event_id = identity("evt", at)
        when = (sample.event_id, at, FAR, "robot$" + sample.registry)
        where = (sample.registry_id, sample.registry, image, tag, digest)
        row = (*when, "tag.push", *where, "192.0.2.7", identity("req", at), "ok")
        self._add("audit", f"id, at, epoch, actor, {what}", row)

    def _derived(self) -> None:
        """What the server keeps beside the rows that it counts."""
        used: Iterable[Row] = [(size, registry_id) for registry_id, size in self._used.items()]
        self._db.executemany("UPDATE registries SET used_bytes = ? WHERE id = ?", used)
        held: Iterable[Row] = [(*figures, repository) for repository, figures in self._held.items()]
        self._db.executemany("UPDATE repositories SET tag_count = ?, size_bytes = ? WHERE id = ?", held)
        self._db.execute(
            "UPDATE blobs SET links = (SELECT count(*) FROM repository_blobs l WHERE l.digest = blobs.digest)"
        )
        for (registry_id,) in self._db.execute("SELECT id FROM registries").fetchall():
            self._db.execute(counts.CORRECT_LINKS, {"1": registry_id})
