"""Lists of tags: 10,000 in one repository, whole and by pages; and a million.

Tags are not pushed one by one, they are laid where each server keeps them: distribution's are links in folders,
olareg's entries of index.json, regserver's rows. A million of distribution's would be four million files and folders,
and olareg's an index.json of 200 MB: they are not measured there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clients import head
from benchmarks.contents import IMAGE, Small, digest_of, headers_of
from benchmarks.figures import LIMITS, Goal, Sample, Workload
from benchmarks.processes import NotMeasured
from benchmarks.scenarios.base import Bench, Found, Scenario
from benchmarks.servers import REPOSITORY, Distribution, Olareg, Peer, Regserver, Server, ask

MANY, MILLION = 10_000, 1_000_000
PAGE = 100
REF_NAME = "org.opencontainers.image.ref.name"  # OCI image-spec, annotations


def names_of(count: int) -> Iterator[str]:
    """In the order in which they are listed."""
    return (f"v{number:07}" for number in range(count))


class Tags(Scenario):
    name = "tags"
    workloads = (
        Workload("tags", "tags/list of 10,000 tags, whole", "ms", less=True),
        Workload("tags-page", "tags/list of 10,000 tags, a page of 100", "ms", less=True),
        Workload("tags-million", "tags/list of 1,000,000 tags, whole", "ms", less=True),
        Workload("tags-million-page", "tags/list of 1,000,000 tags, a page of 100", "ms", less=True),
    )
    goals = (
        Goal("tags", 0.2, "v3", at_most=True),
        Goal("tags-page", 0.2, "v3", at_most=True),
        Goal("tags-million-page", 1.25, "regserver", at_most=True, other="tags-page"),
    )

    def takes(self, peer: Peer) -> bool:
        return peer.name not in LIMITS and isinstance(peer, Regserver | Distribution | Olareg)

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        if bench.wanted("tags") or bench.wanted("tags-page"):
            lay(peer, server, MANY // bench.shrink)
            yield from self._measure(bench, server, "tags", MANY // bench.shrink)
        million = bench.wanted("tags-million") or bench.wanted("tags-million-page")
        if million and isinstance(peer, Regserver):
            lay(peer, server, MILLION // bench.shrink)
            peer.renew(server)
            yield from self._measure(bench, server, "tags-million", MILLION // bench.shrink)

    def _measure(self, bench: Bench, server: Server, name: str, count: int) -> Found:
        path = f"/v2/{REPOSITORY}/tags/list"
        listed = json.loads(ask(server.host, "GET", path, None, headers_of(server)))["tags"]
        if len(listed) < count:
            raise NotMeasured(f"{len(listed)} tags are listed instead of {count}")
        middle = f"v{count // 2:07}"
        for workload, query in ((name, ""), (f"{name}-page", f"?n={PAGE}&last={middle}")):
            if bench.wanted(workload):
                request = head("GET", path + query, server.host, server.header)
                yield workload, Sample(bench.load.ask(server.host, request, 1, bench.seconds).p50_ms)


def lay(peer: Peer, server: Server, count: int) -> None:
    """``count`` tags into the repository, all of one manifest."""
    data = server.folder / "data"
    if isinstance(peer, Regserver):
        lay_rows(data / "catalog.sqlite3", Small(server, os.urandom(2048)).digest, count)
    elif isinstance(peer, Distribution):
        digest = Small(server, os.urandom(2048)).digest
        lay_links(data / "docker/registry/v2/repositories" / REPOSITORY, digest, count)
    else:
        lay_index(data / REPOSITORY, count)


def lay_rows(catalog: Path, digest: str, count: int) -> None:
    """Raises NotMeasured where the catalog is not what this was written for."""
    try:
        with contextlib.closing(sqlite3.connect(catalog, timeout=60)) as database, database:
            ((repository, at),) = database.execute(
                "SELECT repository_id, updated_at FROM tags WHERE digest = ? LIMIT 1", (digest,)
            )
            database.executemany(
                "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                ((repository, name, digest, at) for name in names_of(count)),
            )
            database.execute(
                "UPDATE repositories SET tag_count = (SELECT count(*) FROM tags WHERE repository_id = ?) WHERE id = ?",
                (repository, repository),
            )
    except (sqlite3.Error, ValueError) as error:
        raise NotMeasured(f"tags cannot be laid into regserver's catalog: {error}") from error


def lay_links(repository: Path, digest: str, count: int) -> None:
    for name in names_of(count):
        folder = repository / "_manifests" / "tags" / name / "current"
        folder.mkdir(parents=True)
        (folder / "link").write_text(digest)


def lay_index(repository: Path, count: int) -> None:
    blobs = repository / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    body = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": empty, "layers": [empty]}).encode()
    for content in (b"{}", body):
        (blobs / digest_of(content).partition(":")[2]).write_bytes(content)
    entry = {"mediaType": IMAGE, "digest": digest_of(body), "size": len(body)}
    entries = [{**entry, "annotations": {REF_NAME: name}} for name in names_of(count)]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    (repository / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (repository / "index.json").write_text(json.dumps(index))
