"""The event feed: every change has its event, in the order of the commits; who comes back gets what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regserver.model.access import Permit
from regserver.model.audit import SERVER
from regserver.model.events import EventType
from regserver.storage.catalog import events
from regserver.storage.sql.port import Transaction
from regserver.web import sse
from regserver.web.health import LIFECYCLE
from support.following import following, history
from support.managing import call, collect, faults, make_registry, refusal, services_of
from support.pushing import Registry, make_content, push_blob, push_image, start_upload
from support.registry import ADMIN, ADMIN_TOKEN, served_app, until


@pytest.fixture
async def live(root: Path) -> AsyncIterator[Registry]:
    """Where streams stay open."""
    async with served_app(root, event_stream_seconds=600) as client:
        yield Registry(client, ADMIN)


async def test_a_push_is_told_once_and_says_who_what_and_where(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    pushed = await push_image(guarded, "a/team/api", "v1")
    (event,) = await history(guarded)
    assert event.pop("at").endswith("Z")
    assert event.pop("id") > 0
    assert event == {
        "type": "pushed",
        "registry_id": identity,
        "registry": "a",
        "image": "team/api",
        "reference": "v1",
        "digest": pushed.digest,
        "actor": "admin",
        "request_id": pushed.answer.headers["X-Request-Id"],
    }


async def test_every_kind_of_change_has_its_event(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    image = f"/registries/{identity}/images/api"
    first = await push_image(guarded, "a/api", "v1")
    second = await push_image(guarded, "a/api", "v1")
    await guarded.send("GET", "/v2/a/api/manifests/v1")
    await guarded.send("GET", "/v2/a/api/manifests/v1")
    core = services_of(guarded).core
    await core.pulls.flush(core.db)
    assert (await call(guarded, "DELETE", f"{image}/tags/v1")).status == 204
    assert (await call(guarded, "POST", f"{image}/tags/v1/restore")).status == 200
    assert (await call(guarded, "DELETE", image)).status == 204
    job = await collect(guarded, identity)
    assert (await call(guarded, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": 1}})).status == 200
    assert (await call(guarded, "DELETE", f"/registries/{identity}", query={"force": "true"})).status == 204
    found = await history(guarded)
    shown = [(event["type"], event["image"], event["reference"], event["digest"]) for event in found]
    assert shown == [
        ("pushed", "api", "v1", first.digest),
        ("pushed", "api", "v1", second.digest),
        ("pulled", "api", "v1", second.digest),
        ("deleted", "api", "v1", second.digest),
        ("restored", "api", "v1", second.digest),
        ("deleted", "api", None, None),
        ("collected", None, job["job_id"], None),
        ("quota", None, None, None),
        ("deleted", None, None, None),
    ]
    assert found[1]["detail"] == f"was {first.digest}"
    assert found[2]["count"] == 2
    assert found[6] | {"status": "completed", "bytes_freed": job["bytes_freed"], "error": None} == found[6]
    assert found[7] | {"reason": "changed", "limit_bytes": 2**30} == found[7]
    assert [event["id"] for event in found] == sorted({event["id"] for event in found})


async def test_what_is_refused_or_changes_nothing_has_no_event(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a")
    await push_image(guarded, "a/api", "v1")
    before = await history(guarded)
    assert (await call(guarded, "DELETE", f"/registries/{identity}/images/api/tags/none")).status == 404
    assert (await call(guarded, "DELETE", f"/registries/{identity}")).status == 409
    assert (await call(guarded, "POST", f"/registries/{identity}/gc", {"dry_run": True})).status == 200
    assert await history(guarded) == before


async def test_a_follower_hears_what_happens_and_can_come_back_where_it_was(live: Registry) -> None:
    await make_registry(live, "a")
    await push_image(live, "a/api", "old")
    async with following(live) as stream:
        await push_image(live, "a/api", "v1")
        (block,) = await stream.until(lambda block: True)
        assert (block.event, block.data["reference"]) == ("pushed", "v1")
    for tag in ("v2", "v3"):
        await push_image(live, "a/api", tag)
    async with following(live, headers={"Last-Event-ID": str(block.identity)}, after="0") as stream:
        missed = await stream.until(lambda block: block.data["reference"] == "v3")
        assert [block.data["reference"] for block in missed] == ["v2", "v3"]


async def test_a_stream_says_at_once_where_it_stands(live: Registry) -> None:
    await make_registry(live, "a")
    await push_image(live, "a/api", "v1")
    async with following(live, registry="nothing-happens-here") as stream:
        pass
    await push_image(live, "a/api", "v2")
    async with following(live, after=str(stream.last_id)) as again:
        (block,) = await again.until(lambda block: True)
        assert block.data["reference"] == "v2"


async def test_registry_and_type_choose(guarded: Registry) -> None:
    ids = {name: await make_registry(guarded, name) for name in ("a", "b")}
    for name in ids:
        await push_image(guarded, f"{name}/api", "v1")
        await call(guarded, "DELETE", f"/registries/{ids[name]}/images/api/tags/v1")
    for chosen in ("a", ids["a"]):
        assert {event["registry"] for event in await history(guarded, registry=chosen)} == {"a"}
    assert [event["type"] for event in await history(guarded, type="deleted,quota")] == ["deleted", "deleted"]
    assert len(await history(guarded, type="pushed,deleted")) == 4


async def test_a_token_sees_its_registries_and_no_others(guarded: Registry) -> None:
    ids = {name: await make_registry(guarded, name) for name in ("a", "b")}
    for name in ids:
        await push_image(guarded, f"{name}/api", "v1")
    tokens = services_of(guarded).api_tokens
    for permit, seen in ((Permit(registries=frozenset({ids["a"]})), {"a"}), (Permit(read=True), {"a", "b"})):
        _, token = await tokens.create("t", permit, None)
        found = await history(guarded.seen_by(f"Bearer {token}"))
        assert {event["registry"] for event in found} == seen
    _, token = await tokens.create("t", Permit(registries=frozenset({ids["a"]})), None)
    assert await history(guarded.seen_by(f"Bearer {token}"), registry="b") == []


async def test_a_token_that_is_deleted_follows_no_more(live: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "BEAT_SECONDS", 0.05)
    tokens = services_of(live).api_tokens
    row, token = await tokens.create("t", Permit(read=True), None)
    async with following(live.seen_by(f"Bearer {token}")) as stream:
        assert (await call(live, "DELETE", f"/tokens/{row.id}")).status == 204
        (block,) = await stream.rest()
    assert (block.event, block.data) == ("closing", {"reason": "unauthorized"})


async def test_silence_is_broken_by_signs_of_life_that_carry_the_place(
    live: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "BEAT_SECONDS", 0.05)
    await make_registry(live, "a")
    async with following(live, type="quota") as stream:
        before = stream.last_id
        await push_image(live, "a/api", "v1")
        reading = asyncio.create_task(stream.block())
        await until(lambda: stream.last_id != before)
        reading.cancel()
    assert "alive" in stream.comments


@pytest.mark.parametrize("place", ["x", "-1", "1" * 19, ""])
async def test_a_place_that_is_no_number_is_refused(guarded: Registry, place: str) -> None:
    assert faults(await call(guarded, "GET", "/events", query={"after": place})) == {("after", "out_of_range")}
    answer = await call(guarded, "GET", "/events", headers={"Last-Event-ID": place})
    assert faults(answer) == {("Last-Event-ID", "out_of_range")}


async def test_a_type_that_is_none_is_refused(guarded: Registry) -> None:
    assert faults(await call(guarded, "GET", "/events", query={"type": "pushed,made"})) == {("type", "unknown_value")}


async def test_so_many_may_follow_and_no_more(root: Path) -> None:
    async with served_app(root, event_stream_seconds=600, event_streams=1) as client:
        live = Registry(client, ADMIN)
        async with following(live):
            answer = await call(live, "GET", "/events")
            assert refusal(answer) == (429, "too_many_requests")
            assert answer.headers["Retry-After"] == "10"
        await until_free(live)
        async with following(live):
            pass


async def until_free(live: Registry) -> None:
    """The server has noticed that its follower has gone."""
    await until(lambda: not services_of(live).feed.followers)


async def test_who_reads_nothing_is_told_so_and_closed(live: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SLOW_SECONDS", 0.2)
    identity = await make_registry(live, "a")
    port, host = live.client.port, live.client.host
    reader, writer = await asyncio.open_connection(host, port, limit=2**26)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode())
    core, more = services_of(live).core, {"detail": "x" * 60_000}

    async def flood(tx: Transaction) -> None:
        for _ in range(200):
            await events.of_registry(tx, EventType.QUOTA, identity, SERVER, more=more)

    await core.db.write(flood)
    await until_free(live)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(30):
        text = (await reader.read(-1)).decode()
    writer.close()
    assert 'event: closing\ndata: {"reason":"slow"}' in text


async def test_uploads_that_last_tell_how_far_they_are(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regserver.content.notes.FIRST_SECONDS", 0.0)
    await make_registry(guarded, "a")
    core = services_of(guarded).core
    content = make_content(3000)
    upload = await start_upload(guarded, "a/api")
    for start in (0, 1000):
        await guarded.send("PATCH", upload, data=content[start : start + 1000])
        await core.notes.flush(core.db)
        await core.notes.flush(core.db)  # nothing new: nothing to tell
    await guarded.send("DELETE", upload)
    await core.notes.flush(core.db)
    found = await history(guarded)
    assert [(event["received_bytes"], event["state"]) for event in found] == [
        (1000, "receiving"),
        (2000, "receiving"),
        (2000, "failed"),
    ]
    assert {(event["type"], event["registry"], event["image"]) for event in found} == {("progress", "a", "api")}
    assert len({event["upload"] for event in found}) == 1
    assert upload.rpartition("/")[2] not in str(found)


async def test_uploads_that_are_over_at_once_tell_nothing(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    await push_blob(guarded, "a/api", make_content())
    core = services_of(guarded).core
    assert await core.notes.flush(core.db) == 0


async def test_a_quota_is_told_of_when_it_is_nearly_full_and_when_it_refuses(guarded: Registry) -> None:
    identity = await make_registry(guarded, "a", quota={"storage_gb": 10_000 / 2**30})
    core = services_of(guarded).core
    await push_blob(guarded, "a/api", make_content(9_500))
    for _ in range(3):
        upload = await start_upload(guarded, "a/api")
        assert (await guarded.send("PATCH", upload, data=make_content(9_900))).status == 403
    await core.notes.flush(core.db)
    found = await history(guarded, type="quota")
    assert [event["reason"] for event in found] == ["nearly_full", "refused"]
    assert {event["registry_id"] for event in found} == {identity}
    assert found[1]["used_bytes"] > 9_000
    assert found[1]["limit_bytes"] == 10_000


async def test_what_another_process_commits_is_heard_too(live: Registry) -> None:
    await make_registry(live, "a")
    async with following(live) as stream:
        async with served_app(services_of(live).settings.root) as client:
            pushed = await push_image(Registry(client, ADMIN), "a/api", "v1")
        (block,) = await stream.until(lambda block: True)
    assert block.data["digest"] == pushed.digest


async def test_a_server_that_ends_says_so_and_waits_for_no_follower(live: Registry) -> None:
    async with following(live) as stream:
        draining = asyncio.create_task(live.client.app[LIFECYCLE].drain())  # type: ignore[index]
        (block,) = await stream.rest()
        await draining
    assert (block.event, block.data) == ("closing", {"reason": "shutdown"})


async def test_who_comes_back_too_late_is_told_what_is_lost(guarded: Registry) -> None:
    core = services_of(guarded).core
    identity = await make_registry(guarded, "a")
    for number in range(8):
        await call(guarded, "PATCH", f"/registries/{identity}", {"quota": {"storage_gb": number + 1}})
    ids = [event["id"] for event in await history(guarded)]
    await core.db.write(lambda tx: events.expire(tx, 0, ids[-1] - ids[3], 100))  # all but the latest
    for place, lost in ((ids[0], {"after": ids[0], "until": ids[3]}), (ids[-1] + 7, {"after": ids[-1] + 7})):
        async with following(guarded, after=str(place)) as stream:
            first, *rest = await stream.rest()
            assert (first.event, {**first.data, **lost}) == ("lost", first.data)
            assert len(rest) == (5 if "until" in lost else 1)
    assert [event["id"] for event in await history(guarded)] == ids[4:]
    async with following(guarded, after=str(ids[3])) as stream:
        assert (await stream.rest())[0].event == "quota"


async def test_head_answers_without_a_stream(live: Registry) -> None:
    answer = await live.send("HEAD", "/v1/events")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["Cache-Control"] == "no-store"
