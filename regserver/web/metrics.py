"""``/metrics``: the numbers as Prometheus reads them (docs/monitoring.md).

The library for the format is imported by the first who asks; counting itself needs none (ADR 15).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from regserver import __version__
from regserver.config import Settings
from regserver.content.figures import Stock
from regserver.counting import Dumped, Histogram, Numbers
from regserver.model.access import Access
from regserver.web import siblings
from regserver.web.context import SERVICES, Call, Route
from regserver.web.health import LIFECYCLE
from regserver.web.siblings import SIBLINGS, Siblings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PATH: Final = "/metrics"
UNMATCHED: Final = "unmatched"  # the route of what no route takes
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def count(request: web.Request, status: int, seconds: float, sent: int) -> None:
    """A request has ended; whatever it asked for, it falls under one of the routes."""
    resource = request.match_info.route.resource
    route = UNMATCHED if resource is None else resource.canonical
    method = request.method if request.method in _METHODS else "other"
    numbers = request.app[SERVICES].core.numbers
    numbers.answer(method, route, status, seconds, request.content.total_bytes, sent)


async def show(request: web.Request, call: Call) -> web.Response:
    """The text format, version 0.0.4."""
    return await _answer(request.app)


async def _answer(app: web.Application) -> web.Response:
    services = app[SERVICES]
    stock, numbers = await services.stock.take(), await app[SIBLINGS].all()
    healthy = services.core.health.failure is None
    text = await asyncio.to_thread(_render, numbers, stock, healthy)  # the first time with an import of its library
    headers = {hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=text, headers=headers)


ROUTES = (Route("GET", PATH, Access.API_READ, show),)


def placed(routes: Sequence[Route], settings: Settings) -> list[Route]:
    """The routes of the public address: the numbers as the settings have it, to those who may, to all, or not here."""
    others = [route for route in routes if route.path != PATH]
    if settings.metrics_listen is not None:
        return others
    access = Access.OPEN if settings.metrics_public or settings.dev else Access.API_READ
    return [*others, Route("GET", PATH, access, show)]


def install(app: web.Application) -> None:
    """This process tells what it has counted, to those who serve the same address."""
    services = app[SERVICES]

    def tell() -> Dumped:
        return services.core.numbers.dump(running=app[LIFECYCLE].running, followers=services.feed.followers)

    app[SIBLINGS] = Siblings(services.settings.root, tell)
    if siblings.wanted(services.settings):
        app.on_startup.append(app[SIBLINGS].open)
        app.on_cleanup.append(app[SIBLINGS].close)


def alone(app: web.Application) -> web.Application:
    """What an address of its own serves: nothing but the numbers, to whoever reaches it."""

    async def answer(_: web.Request) -> web.Response:
        return await _answer(app)

    separate = web.Application()
    separate.router.add_get(PATH, answer)
    return separate


def _render(numbers: Numbers, stock: Stock | None, healthy: bool) -> bytes:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exported(lambda: _metrics(numbers, stock, healthy)))
    ProcessCollector(registry=registry)
    return bytes(generate_latest(registry))


class _Exported:
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


def _metrics(numbers: Numbers, stock: Stock | None, healthy: bool) -> Iterator[Metric]:
    yield _gauge("build_info", "The version that runs.", [({"version": __version__}, 1)])
    yield _gauge("healthy", "1 while this process may take writes.", [({}, healthy)])
    yield _gauge("http_requests_in_flight", "Requests under way.", [({}, numbers.running)])
    yield _gauge("events_followers", "Open streams of /v1/events.", [({}, numbers.followers)])
    yield from _of_requests(numbers)
    yield from _of_this_process(numbers)
    yield _gauge("catalog_up", "1 while the catalog can be read.", [({}, stock is not None)])
    if stock is not None:
        yield from _of_stock(stock)


def _of_requests(numbers: Numbers) -> Iterator[Metric]:
    labels = ("method", "route", "status")
    rows = [(dict(zip(labels, key, strict=True)), row) for key, row in sorted(numbers.answered.copy().items())]
    seconds = [(key, row.seconds) for key, row in rows]
    yield _counter("http_requests", "Requests answered.", [(key, row.seconds.count) for key, row in rows])
    yield _histogram("http_request_duration_seconds", "From a request's head to the end of its answer.", seconds)
    yield _counter("http_received_bytes", "Bytes of requests' bodies.", [(key, row.received) for key, row in rows])
    yield _counter("http_sent_bytes", "Bytes of answers' bodies.", [(key, row.sent) for key, row in rows])


def _of_this_process(numbers: Numbers) -> Iterator[Metric]:
    results = [
        ({"cache": str(cache), "result": result}, found)
        for cache, both in numbers.caches.items()
        for result, found in zip(("miss", "hit"), both, strict=True)
    ]
    yield _counter("cache_requests", "What was looked for in a cache, and whether it was there.", results)
    yield _histogram("catalog_group_size", "Transactions made durable by one COMMIT.", [({}, numbers.group_sizes)])
    yield _histogram(
        "catalog_commit_duration_seconds", "A group of transactions, COMMIT included.", [({}, numbers.commit_seconds)]
    )
    row = numbers.collected
    ended = [({"status": "completed"}, row.completed), ({"status": "failed"}, row.failed)]
    yield _counter("gc_jobs", "Collections that have ended in this process.", ended)
    yield _counter("gc_freed_bytes", "Bytes that collections gave back.", [({}, row.freed_bytes)])
    yield _counter("gc_deleted_blobs", "Blobs that collections deleted.", [({}, row.blobs)])
    yield _counter("gc_deleted_manifests", "Manifests that collections deleted.", [({}, row.manifests)])


def _of_stock(stock: Stock) -> Iterator[Metric]:
    found = stock.figures
    leases = [({"kind": "blob"}, found.blob_leases), ({"kind": "manifest"}, found.manifest_leases)]
    yield _gauge("registries", "Registries.", [({}, found.registries)])
    yield _gauge("repositories", "Images that were ever pushed to.", [({}, found.repositories)])
    yield _gauge("tags", "Tags.", [({}, found.tags)])
    yield _gauge("used_bytes", "What quotas count, of all registries together.", [({}, found.used_bytes)])
    yield _gauge("uploads_open", "Upload sessions that have not ended.", [({}, found.uploads)])
    yield _gauge("leases", "Promises to pushes in flight; expired ones until a collection.", leases)
    yield _gauge("trash_files", "Files that are to be unlinked.", [({}, found.trash)])
    yield _gauge("gc_running", "Collections that run, in whatever process.", [({}, found.running_jobs)])
    yield _counter("events", "Events committed, ever.", [({}, stock.last_event)])
    yield _gauge("store_blobs", "Blobs in the store; may be five minutes old.", [({}, stock.blobs)])
    yield _gauge("store_bytes", "Bytes of all blobs; may be five minutes old.", [({}, stock.blob_bytes)])
    if stock.free_bytes is not None:
        yield _gauge("store_free_bytes", "Bytes free on the store's disk.", [({}, stock.free_bytes)])


# ---------------------------------------------------------------- the library's words

Samples = Iterable[tuple[dict[str, str], float]]


def _gauge(name: str, about: str, samples: Samples) -> Metric:
    return _family("gauge", name, about, [("", labels, value) for labels, value in samples])


def _counter(name: str, about: str, samples: Samples) -> Metric:
    return _family("counter", name, about, [("_total", labels, value) for labels, value in samples])


def _histogram(name: str, about: str, samples: Iterable[tuple[dict[str, str], Histogram]]) -> Metric:
    found: list[tuple[str, dict[str, str], float]] = []
    for labels, histogram in samples:
        counts, below = list(histogram.counts), 0
        for bound, number in zip((*map(str, map(float, histogram.bounds)), "+Inf"), counts, strict=True):
            below += number
            found.append(("_bucket", {**labels, "le": bound}, below))
        found += [("_count", labels, below), ("_sum", labels, histogram.total)]
    return _family("histogram", name, about, found)


def _family(kind: str, name: str, about: str, samples: Iterable[tuple[str, dict[str, str], float]]) -> Metric:
    from prometheus_client.core import Metric

    family: Any = Metric(f"regserver_{name}", about, kind)
    for suffix, labels, value in samples:
        family.add_sample(f"regserver_{name}{suffix}", labels, float(value))
    return family  # type: ignore[no-any-return]
