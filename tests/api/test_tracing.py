"""Traces: a span for every request and within it for every write; nothing secret in them; nothing of it by default."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from regserver.storage.sql.port import DatabaseFailed
from regserver.web import tracing
from support.managing import make_registry, services_of
from support.pushing import Registry, push_image
from support.registry import ADMIN, ADMIN_TOKEN, fail_to_serve, served_app


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(
    root: Path, exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(tracing, "make_provider", lambda: provider)
    async with served_app(root, otel=True) as client:
        yield Registry(client, ADMIN)


def served(exported: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.kind is SpanKind.SERVER]


async def test_a_request_is_a_span_named_by_its_route(traced: Registry, exported: InMemorySpanExporter) -> None:
    await make_registry(traced, "a")
    await push_image(traced, "a/team/api", "v1")
    exported.clear()
    answer = await traced.send("GET", "/v2/a/team/api/manifests/v1")
    (span,) = served(exported)
    assert span.name == "GET /v2/{name}/manifests/{reference}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v2/{name}/manifests/{reference}",
        "url.path": "/v2/a/team/api/manifests/v1",
        "http.response.status_code": 200,
        "regserver.request_id": answer.headers["X-Request-Id"],
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_a_write_is_a_span_within_its_request(traced: Registry, exported: InMemorySpanExporter) -> None:
    await make_registry(traced, "a")
    (request,) = served(exported)
    writes = [span for span in exported.get_finished_spans() if span.name == "catalog.write"]
    within = [span for span in writes if span.parent and span.parent.span_id == request.context.span_id]
    assert len(within) == 1
    assert within[0].context.trace_id == request.context.trace_id


async def test_the_trace_of_a_client_is_taken_up(traced: Registry, exported: InMemorySpanExporter) -> None:
    trace_id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    for value, taken in ((f"00-{trace_id}-{parent}-01", True), ("nonsense", False)):
        exported.clear()
        await traced.send("GET", "/v2/", headers={"traceparent": value})
        (span,) = served(exported)
        assert (format(span.context.trace_id, "032x") == trace_id) is taken
        assert (span.parent is not None and format(span.parent.span_id, "016x") == parent) is taken


async def test_a_failure_of_the_server_is_an_error_and_a_refusal_is_none(
    traced: Registry, exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseFailed("no")

    monkeypatch.setattr(services_of(traced).registries, "page", fail)
    exported.clear()
    assert (await traced.send("GET", "/v1/registries")).status == 503
    assert (await traced.send("GET", "/nothing/here")).status == 404
    failed, refused = served(exported)
    assert failed.status.status_code is StatusCode.ERROR
    assert (refused.name, refused.status.status_code) == ("GET unmatched", StatusCode.UNSET)


async def test_a_span_holds_no_query_and_no_credentials(traced: Registry, exported: InMemorySpanExporter) -> None:
    await traced.seen_by(f"Bearer {ADMIN_TOKEN}").send("GET", "/v1/registries", query={"q": "osprey"})
    text = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "/v1/registries" in text
    assert "osprey" not in text
    assert ADMIN_TOKEN not in text


def test_nothing_of_it_is_loaded_unless_it_is_asked_for() -> None:
    code = "import sys, regserver.serving; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    code, said = fail_to_serve(tmp_path / "root", "--dev", "--otel", environment={"PYTHONPATH": path})
    assert (code, said) == (2, "regserver: --otel needs a library: pip install 'regserver[otel]'\n")
