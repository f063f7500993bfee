"""What a full catalog costs: regserver with more and more repositories, and with more and more tags in one of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.clients import ONCE, Load, head
from benchmarks.contents import Small, manifest
from benchmarks.growing.filling import copy_repository, name_of
from benchmarks.processes import resident_mb
from benchmarks.scenarios.base import counted
from benchmarks.scenarios.tags import lay_rows, names_of
from benchmarks.servers import REPOSITORY, Regserver, Server

REPOSITORIES: Sequence[int] = (10, 1_000, 100_000)
TAGS: Sequence[int] = (10, 1_000, 100_000, 1_000_000)
ASKED = 5_000  # so many different ones are asked for in turn
CONNECTIONS, PUSHERS = 64, 16
PAGE = 100

Point = tuple[str, str, float, float]
"""chart, curve, x, figure"""


def catalog_of(server: Server) -> Path:
    return server.folder / "data" / "catalog.sqlite3"


def repositories(load: Load, folder: Path, seconds: int, shrink: int) -> Iterator[Point]:
    peer = Regserver()
    with peer.serve(folder / "server") as server:
        image, there = Small(server, os.urandom(2048)), 0
        for asked in REPOSITORIES:
            count = max(2, asked // shrink)
            copy_repository(catalog_of(server), there + 1, count)
            there = count
            numbers = random.Random(1).sample(range(1, count + 1), min(count, ASKED))
            paths = [f"/v2/{name_of(number)}/manifests/{image.tag}" for number in numbers]
            yield from measured(load, server, peer, image, paths, seconds, "repositories", count)


def tags(load: Load, folder: Path, seconds: int, shrink: int) -> Iterator[Point]:
    peer = Regserver()
    with peer.serve(folder / "server") as server:
        image = Small(server, os.urandom(2048))
        for asked in TAGS:
            count = max(2, asked // shrink)
            lay_rows(catalog_of(server), image.digest, count)
            names = list(names_of(count))
            sample = random.Random(1).sample(names, min(count, ASKED))
            paths = [f"/v2/{REPOSITORY}/manifests/{name}" for name in sample]
            yield from measured(load, server, peer, image, paths, seconds, "tags", count)


def measured(
    load: Load, server: Server, peer: Regserver, image: Small, paths: Sequence[str], seconds: int, x: str, count: int
) -> Iterator[Point]:
    """The figures at one size, after a restart with it."""
    start = peer.restart(server)
    peer.renew(server)
    login = f"Authorization: {server.basic}"  # a bearer token is good for one repository
    yield f"{x}-start", "start, ms", count, start
    yield f"{x}-memory", "memory when idle, MB", count, resident_mb(server.pid)
    for curve, agent in (("GET by tag, asked again", "bench"), ("GET by tag, first time", f"bench/{ONCE}")):
        requests = b"".join(head("GET", path, server.host, login, agent) for path in paths)
        sample = counted(server, partial(load.ask, server.host, requests, CONNECTIONS, seconds))
        yield f"{x}-reads", curve, count, sample.value
        if sample.cpu is not None:
            yield f"{x}-cpu", curve, count, sample.cpu
    target = paths[0].removeprefix("/v2/").partition("/manifests/")[0]
    yield f"{x}-pushes", "manifests pushed, 16 at once", count, pushed(load, server, image, target, seconds)
    request = head("GET", f"{paths[0].partition('/manifests/')[0]}/tags/list?n={PAGE}", server.host, login)
    yield f"{x}-lists", "a page of 100 tags", count, load.ask(server.host, request, 1, seconds).p50_ms
    bearer = f"Authorization: Bearer {server.admin}"
    request = head("GET", "/v1/registries", server.host, bearer)
    yield f"{x}-lists", "GET /v1/registries", count, load.ask(server.host, request, 1, seconds).p50_ms


def pushed(load: Load, server: Server, image: Small, target: str, seconds: int) -> float:
    """Manifests per second into the repository ``target``, each new: the run's own number is in its annotation. Never
    into the one that is copied: its copies would grow with it."""
    login = f"Authorization: {server.basic}"
    body = manifest(image.config, [image.layer], f"{os.urandom(4).hex()} {ONCE}")
    return counted(server, partial(load.manifests, server.host, login, target, body, PUSHERS, seconds)).value
