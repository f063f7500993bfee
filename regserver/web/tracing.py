"""Traces for OpenTelemetry: a span for every request, and one for every transaction that writes. An extra; where it is
not asked for, nothing of it is imported.

Where spans go, and how many of them, say the variables that OpenTelemetry defines (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_TRACES_SAMPLER``). A span names the route, never a query, a header or a body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from regserver import __version__
from regserver.storage.sql.port import Database, Reader, Row, Transaction
from regserver.web.facts import FACTS
from regserver.web.metrics import UNMATCHED

T = TypeVar("T")


def make_provider() -> TracerProvider:
    """Spans go out in batches, from a thread of its own; what cannot be sent is dropped and logged."""
    about = {"service.name": "regserver", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(about))  # OTEL_SERVICE_NAME and its like count before these
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """Of one application."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("regserver", __version__)

    def database(self, database: Database) -> Database:
        """The same, and each write is a span of the request that it belongs to."""
        return _Traced(database, self._tracer)

    def install(self, app: web.Application) -> None:
        """Outermost, so that a span lasts as long as its request."""
        app.middlewares.insert(0, _middleware(self._tracer))

    def close(self) -> None:
        """Sends what is left. Blocks, some seconds at the most."""
        self._provider.shutdown()


def _middleware(tracer: trace.Tracer) -> Any:
    @web.middleware
    async def span(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = UNMATCHED if resource is None else resource.canonical
        attributes = {"http.request.method": request.method, "http.route": route, "url.path": request.path[:512]}
        with tracer.start_as_current_span(
            f"{request.method} {route}",
            context=propagate.extract({"traceparent": value} if (value := _parent(request)) else {}),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its text may quote what came in
        ) as current:
            response = await handler(request)
            current.set_attribute("http.response.status_code", response.status)
            if FACTS in request:
                current.set_attribute("regserver.request_id", request[FACTS].request_id)
            if response.status >= 500:
                current.set_status(StatusCode.ERROR)
            return response

    return span


def _parent(request: web.Request) -> str | None:
    """W3C Trace Context; a client that sends two of them gets a trace of its own."""
    values = request.headers.getall("traceparent", [])
    return values[0] if len(values) == 1 else None


class _Traced:
    """A Database whose writes are spans."""

    def __init__(self, database: Database, tracer: trace.Tracer) -> None:
        self._database = database
        self._tracer = tracer

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return await self._database.fetch(sql, *args)

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        return await self._database.read(body)

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        with self._tracer.start_as_current_span("catalog.write", record_exception=False):
            return await self._database.write(body)

    async def close(self) -> None:
        await self._database.close()
