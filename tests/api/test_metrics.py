"""`/metrics`: what it counts, who may read it and where, and that the dashboard asks for what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from regserver.model.access import Permit
from regserver.web import metrics
from support.following import following
from support.managing import collect, make_registry, services_of
from support.pushing import Registry, make_content, push_blob, push_image, start_upload
from support.registry import ADMIN, served_app, served_process

DOCS = Path(__file__).parents[2] / "docs"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(asker: Registry) -> Samples:
    answer = await asker.send("GET", "/metrics")
    assert answer.status == 200, answer
    return read(answer.body.decode())


def read(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all that has these labels."""
    wanted = set(labels.items())
    return sum(number for (found, given), number in samples.items() if found == name and wanted <= given)


async def test_requests_are_counted_by_the_route_and_never_by_the_path(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    for path in ("/v2/a/api/manifests/v1", "/v2/a/api/manifests/v1", "/v2/a/api/manifests/none", "/nothing/here"):
        await guarded.send("GET", path)
    await guarded.send("PURGE", "/v2/")
    samples = await scrape(guarded)
    manifests = {"method": "GET", "route": "/v2/{name}/manifests/{reference}"}
    requests, seconds = "regserver_http_requests_total", "regserver_http_request_duration_seconds"
    assert value(samples, requests, **manifests, status="2xx") == 2
    assert value(samples, requests, **manifests, status="4xx") == 1
    assert value(samples, f"{seconds}_count", **manifests) == 3
    assert value(samples, f"{seconds}_bucket", **manifests, le="+Inf") == 3
    assert 0 < value(samples, f"{seconds}_sum", **manifests) < 60
    assert value(samples, requests, method="GET", route="unmatched", status="4xx") == 1
    assert value(samples, requests, method="other", status="4xx") == 1
    assert not [key for key in samples if "nothing" in str(key) or "PURGE" in str(key)]


async def test_bytes_are_counted_both_ways(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    content = make_content(70_000)
    digest = await push_blob(guarded, "a/api", content)
    await guarded.send("GET", f"/v2/a/api/blobs/{digest}")
    samples = await scrape(guarded)
    blob = "/v2/{name}/blobs/{digest}"
    assert value(samples, "regserver_http_received_bytes_total") >= len(content)
    assert value(samples, "regserver_http_sent_bytes_total", route=blob, method="GET") == len(content)


async def test_the_catalog_and_the_collector_are_shown_in_figures(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    await guarded.send("DELETE", "/v2/a/api/manifests/v1")
    job = await collect(guarded, identity)
    await push_image(guarded, "a/api", "v2")
    await start_upload(guarded, "a/api")
    await push_blob(guarded, "a/api", make_content())
    samples = await scrape(guarded)
    expected = {
        "healthy": 1, "catalog_up": 1, "registries": 1, "repositories": 1, "tags": 1, "uploads_open": 1,
        "gc_running": 0, "gc_freed_bytes_total": job["bytes_freed"], "gc_deleted_blobs_total": job["blobs_deleted"],
        "gc_deleted_manifests_total": 1, "http_requests_in_flight": 1, "events_followers": 0,
    }  # fmt: skip
    assert {name: value(samples, f"regserver_{name}") for name in expected} == expected
    assert value(samples, "regserver_gc_jobs_total", status="completed") == 1
    assert value(samples, "regserver_leases", kind="blob") >= 1
    db = services_of(guarded).core.db
    ((blobs, size),) = await db.fetch("SELECT count(*), sum(size) FROM blobs")
    ((used,),) = await db.fetch("SELECT used_bytes FROM registries")
    ((last,),) = await db.fetch("SELECT max(id) FROM events")
    assert (value(samples, "regserver_store_blobs"), value(samples, "regserver_store_bytes")) == (blobs, size)
    assert value(samples, "regserver_used_bytes") == used
    assert value(samples, "regserver_events_total") == last
    assert value(samples, "regserver_store_free_bytes") > 0
    assert value(samples, "regserver_catalog_group_size_count") > 5
    assert value(samples, "regserver_catalog_group_size_sum") >= value(samples, "regserver_catalog_group_size_count")
    assert value(samples, "process_resident_memory_bytes") > 0


async def test_caches_count_what_they_had_and_what_not(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    token = (await guarded.send("GET", "/token?scope=repository:a/api:pull")).json["token"]
    for _ in range(3):
        await guarded.seen_by(f"Bearer {token}").send("GET", "/v2/")
    samples = await scrape(guarded)
    assert value(samples, "regserver_cache_requests_total", cache="tokens", result="miss") == 1
    assert value(samples, "regserver_cache_requests_total", cache="tokens", result="hit") == 2


async def test_a_token_that_may_read_may_read_it_and_a_registrys_may_not(guarded: Registry) -> None:
    identity, tokens = await make_registry(guarded, "a"), services_of(guarded).api_tokens
    for permit, status in ((Permit(read=True), 200), (Permit(registries=frozenset({identity})), 403)):
        _, token = await tokens.create("t", permit, None)
        assert (await guarded.seen_by(f"Bearer {token}").send("GET", "/metrics")).status == status
    assert (await guarded.seen_by(None).send("GET", "/metrics")).status == 401


@pytest.mark.parametrize("changes", [{"metrics_public": True}, {"dev": True}])
async def test_it_is_open_where_that_was_asked_for(root: Path, changes: dict[str, bool]) -> None:
    async with served_app(root, **changes) as client:
        assert await scrape(Registry(client))


async def test_on_an_address_of_its_own_it_is_open_and_gone_from_the_public_one(root: Path) -> None:
    async with served_app(root, metrics_listen=("127.0.0.1", 0)) as client:
        assert (await Registry(client, ADMIN).send("GET", "/metrics")).status == 404
        app: web.Application = client.app  # type: ignore[assignment]
        async with TestClient(TestServer(metrics.alone(app))) as apart:
            async with apart.get("/metrics") as answer:
                assert value(read(await answer.text()), "regserver_healthy") == 1
            async with apart.get("/v1/registries") as answer:
                assert answer.status == 404


def test_the_process_listens_there_and_says_so(tmp_path: Path) -> None:
    with served_process(tmp_path / "root", "--dev", "--metrics-listen", "127.0.0.1:0") as server:
        (said,) = re.findall(r'"message": "metrics", "address": "([^"]+)"', server.output)
        fetch = f"import urllib.request as r; print(r.urlopen('http://{said}/metrics').read().decode())"
        text = subprocess.run([sys.executable, "-c", fetch], capture_output=True, text=True, check=True).stdout
        assert value(read(text), "regserver_healthy") == 1


def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with served_process(tmp_path / "root", "--dev") as server:
        taken = f"{server.url.host}:{server.url.port}"
        command = [sys.executable, "-m", "regserver", "serve", "--root", str(tmp_path / "other"), "--dev"]
        flags = ["--listen", "127.0.0.1:0", "--metrics-listen", taken]
        ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"cannot listen on {taken} for --metrics-listen" in ended.stderr


def test_a_server_that_nobody_scrapes_never_loads_the_library() -> None:
    code = "import sys, regserver.serving; print([name for name in sys.modules if name.startswith('prometheus')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- what is written about it


def expressions(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (found for key, found in part.items() if key in ("expr", "query") and isinstance(found, str))
        yield from (found for inner in part.values() for found in expressions(inner))
    elif isinstance(part, list):
        yield from (found for inner in part for found in expressions(inner))


async def everything(guarded: Registry) -> Samples:
    """After so much that every number is there."""
    await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    async with following(guarded):
        return await scrape(guarded)


async def test_every_expression_of_the_dashboard_asks_for_what_there_is(guarded: Registry) -> None:
    samples = await everything(guarded)
    labels = {name: {label for found, given in samples if found == name for label, _ in given} for name, _ in samples}
    dashboard = json.loads((DOCS / "grafana/regserver.json").read_text())
    asked = [found for found in expressions(dashboard) if found != "prometheus"]
    assert len(asked) > 20
    for expression in asked:
        names = set(re.findall(r"\b((?:regserver|process)_\w+)", expression))
        assert names, expression
        assert names <= set(labels), expression
        used = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        used |= set(re.findall(r'(\w+)=~?"', expression))
        assert used - {"instance"} <= set().union(*(labels[name] for name in names)), expression


async def test_every_number_is_described_and_no_other(guarded: Registry) -> None:
    suffixes = r"_(bucket|sum|count|created)$"
    shown = {re.sub(suffixes, "", name) for name, _ in await everything(guarded) if name.startswith("regserver_")}
    described = set(re.findall(r"^\| `(regserver_\w+)", (DOCS / "monitoring.md").read_text(), re.MULTILINE))
    assert shown == described
