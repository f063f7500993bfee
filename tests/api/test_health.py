"""/healthz and /readyz, as an orchestrator asks them."""

import asyncio
from pathlib import Path

import pytest

from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.sql.port import DatabaseFailed
from regserver.storage.sql.sqlite import SQLiteDatabase
from regserver.web.context import SERVICES
from regserver.web.health import LIFECYCLE
from support.registry import Client, served_app, until


async def reasons(client: Client) -> list[str]:
    """Why /readyz says no."""
    answer = await client.get("/readyz")
    assert answer.status == 503
    body = await answer.json()
    assert body["status"] == "unavailable"
    return list(body["reasons"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("dev", [True, False])
async def test_both_are_open_and_say_ok(tmp_path: Path, path: str, dev: bool) -> None:
    async with served_app(tmp_path, dev=dev) as client:
        answer = await client.get(path)
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_both_answer_whatever_credentials_are_sent(tmp_path: Path, path: str) -> None:
    async with served_app(tmp_path) as client:
        answer = await client.get(path, headers={"Authorization": "Bearer stale"})
        assert answer.status == 200


async def test_ready_means_that_a_write_was_committed(tmp_path: Path) -> None:
    async with served_app(tmp_path) as client:
        database = client.app[SERVICES].core.db
        before = await database.fetch("SELECT value FROM installation WHERE name = 'ready_at'")
        await client.get("/readyz")
        after = await database.fetch("SELECT value FROM installation WHERE name = 'ready_at'")
        assert (before, len(after)) == ([], 1)


async def test_not_ready_after_a_failure_that_only_a_restart_clears(tmp_path: Path) -> None:
    async with served_app(tmp_path) as client:
        client.app[SERVICES].core.health.fail("a sync failed")
        assert await reasons(client) == ["a sync failed"]
        assert (await client.get("/healthz")).status == 200


async def test_not_ready_below_the_reserve_of_free_space(tmp_path: Path) -> None:
    async with served_app(tmp_path, reserve_bytes=2**62) as client:
        assert await reasons(client) == ["free space is below the reserve"]


async def test_not_ready_while_the_disk_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(_: FilesystemBlobStore) -> None:
        raise StoreFailed("/secret/path: no space", full=True)

    monkeypatch.setattr(FilesystemBlobStore, "probe", probe)
    async with served_app(tmp_path) as client:
        assert await reasons(client) == ["the blob store does not take writes"]
        monkeypatch.undo()
        assert (await client.get("/readyz")).status == 200


async def test_a_sync_that_failed_stays_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(_: FilesystemBlobStore) -> None:
        raise StoreFailed("fsync: input/output error", fatal=True)

    monkeypatch.setattr(FilesystemBlobStore, "probe", probe)
    async with served_app(tmp_path) as client:
        await reasons(client)
        monkeypatch.undo()
        assert await reasons(client) == ["a sync of the blob store failed"]


async def test_not_ready_while_the_catalog_does_not_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served_app(tmp_path) as client:

        async def write(*_: object) -> None:
            raise DatabaseFailed("/secret/path: disk is full", full=True)

        monkeypatch.setattr(SQLiteDatabase, "write", write)
        assert await reasons(client) == ["the catalog does not commit"]
        monkeypatch.undo()
        assert (await client.get("/readyz")).status == 200


async def test_not_ready_while_a_commit_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served_app(tmp_path) as client:

        async def write(*_: object) -> None:
            await asyncio.sleep(3600)

        monkeypatch.setattr("regserver.web.health.CHECK_SECONDS", 0.01)
        monkeypatch.setattr(SQLiteDatabase, "write", write)
        assert "the catalog did not commit within 0.01 s" in await reasons(client)
        monkeypatch.undo()


async def test_however_many_ask_at_once_the_disk_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    go_on = asyncio.Event()

    async def probe(_: FilesystemBlobStore) -> None:
        nonlocal asked
        asked += 1
        await go_on.wait()

    monkeypatch.setattr(FilesystemBlobStore, "probe", probe)
    monkeypatch.setattr("regserver.web.health.CHECK_SECONDS", 60)
    async with served_app(tmp_path) as client:
        asking = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
        await until(lambda: client.app[LIFECYCLE].running == len(asking))
        go_on.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200}
        assert asked == 1
        await client.get("/readyz")
        assert asked == 2, "a later question is asked anew"


async def test_draining_is_not_ready_but_alive_and_parts_with_its_connections(tmp_path: Path) -> None:
    async with served_app(tmp_path) as client:
        client.app[LIFECYCLE].draining = True
        assert await reasons(client) == ["shutting down"]
        answer = await client.get("/healthz")
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
