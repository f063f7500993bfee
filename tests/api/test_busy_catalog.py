"""Another process writes to the catalog: who wants to write waits, and is refused in the end; readers do neither."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.storage.sql import sqlite
from regserver.web.context import SERVICES
from support.pushing import Registry, digest_of, make_content, push_image
from support.registry import served_app

REPOSITORY = "my/api"
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"


@contextlib.contextmanager
def another_writer(root: Path) -> Iterator[None]:
    """Holds the catalog's one lock for writers."""
    with contextlib.closing(sqlite3.connect(root / "catalog.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_busy_catalog_refuses_in_the_end_and_serves_all_the_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    async with served_app(root, dev=True) as client:
        registry, content = Registry(client), make_content()
        image = await push_image(registry, REPOSITORY, "v1")
        with another_writer(root):
            refused = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
            assert refused.refusal == (503, "UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) > 0
            assert (await registry.send("DELETE", f"/v2/{REPOSITORY}/manifests/v1")).status == 503
            ready = await registry.send("GET", "/readyz")
            assert (ready.status, ready.json["reasons"]) == (503, ["the catalog does not commit"])
            pulled = await registry.send("GET", f"/v2/{REPOSITORY}/manifests/v1")
            assert pulled.body == image.content
            for layer in image.document["layers"]:
                blob = await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{layer['digest']}")
                assert digest_of(blob.body) == layer["digest"]
        assert (await registry.send("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")).status == 404
        done = await registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
        assert done.status == 201
        assert (await registry.send("GET", "/readyz")).status == 200
        assert await client.app[SERVICES].core.db.fetch("SELECT 1 FROM uploads") == []


async def test_a_catalog_that_is_busy_for_a_moment_only_takes_longer(root: Path) -> None:
    async with served_app(root, dev=True) as client:
        registry, content = Registry(client), make_content()
        with another_writer(root):
            push = asyncio.create_task(
                registry.send("POST", UPLOADS, data=content, query={"digest": digest_of(content)})
            )
            ended, _ = await asyncio.wait({push}, timeout=0.5)
            assert not ended
        assert (await push).status == 201
