"""Idempotency-Key: a request that is sent again is carried out once, whatever happens in between."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from regserver.content.housekeeping import Housekeeping
from regserver.content.idempotency import KEPT_SECONDS
from regserver.storage.catalog import accounts, idempotency
from regserver.storage.sql.port import DatabaseFailed
from support.managing import JSON, call, ended, make_registry, refusal, services_of
from support.pushing import Answer, Registry
from support.registry import ADMIN, served_app
from support.robots import login

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


async def post(registry: Registry, path: str, document: Any = None, key: str = KEY) -> Answer:
    return await call(registry, "POST", path, document, headers={"Idempotency-Key": key})


async def count(registry: Registry, path: str) -> int:
    return int((await call(registry, "GET", path)).json["meta"]["total"])


async def pass_epochs(registry: Registry, epochs: int) -> None:
    db = services_of(registry).core.db
    await db.write(lambda tx: tx.execute("UPDATE clock SET epoch = epoch + $1", epochs))


def told(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """An answer without what differs from request to request."""
    passing = {"x-request-id", "date", "idempotency-replayed"}
    return answer.status, answer.body, {n: v for n, v in answer.headers.items() if n.lower() not in passing}


def replayed(answer: Answer) -> bool:
    return answer.headers.get("Idempotency-Replayed") == "true"


async def test_the_same_request_gets_the_same_answer_and_is_carried_out_once(guarded: Registry) -> None:
    first, second = [await post(guarded, "/registries", {"name": "a", "public": True}) for _ in range(2)]
    assert (first.status, replayed(first), replayed(second)) == (201, False, True)
    assert told(first) == told(second)
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    assert await count(guarded, "/registries") == 1
    lines = await services_of(guarded).core.db.fetch("SELECT action FROM audit")
    assert lines == [("registry.create",)]


async def test_another_request_under_the_same_key_is_refused(guarded: Registry) -> None:
    registry_id = (await post(guarded, "/registries", {"name": "a"})).json["data"]["id"]
    for path, document in (
        ("/registries", {"name": "b"}),
        ("/registries?x=1", {"name": "a"}),
        (f"/registries/{registry_id}/robots", {"name": "a"}),
        ("/registries", None),
    ):
        assert refusal(await post(guarded, path, document)) == (422, "key_reused"), path
    assert await count(guarded, "/registries") == 1
    assert await count(guarded, f"/registries/{registry_id}/robots") == 1


async def test_a_key_is_its_principal_s_own(guarded: Registry) -> None:
    made = (await call(guarded, "POST", "/tokens", {"name": "ci", "scopes": ["admin"]})).json["data"]
    other = guarded.seen_by(f"Bearer {made['token']}")
    assert (await post(guarded, "/registries", {"name": "a"})).status == 201
    assert refusal(await post(other, "/registries", {"name": "a"})) == (409, "already_exists")
    assert (await post(other, "/registries", {"name": "b"})).status == 201


async def test_without_a_key_nothing_is_remembered(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    assert refusal(await call(guarded, "POST", "/registries", {"name": "a"})) == (409, "already_exists")
    assert await services_of(guarded).core.db.fetch("SELECT * FROM idempotency_keys") == []


async def test_a_refusal_is_not_kept(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    assert refusal(await post(guarded, "/registries", {"name": "a"})) == (409, "already_exists")
    assert refusal(await post(guarded, "/registries", {"name": "A"})) == (422, "validation_failed")
    assert (await call(guarded, "DELETE", f"/registries/{registry_id}")).status == 204
    assert (await post(guarded, "/registries", {"name": "a"})).status == 201


async def test_of_requests_that_race_one_is_carried_out(guarded: Registry) -> None:
    answers = await asyncio.gather(*(post(guarded, "/registries", {"name": "a"}) for _ in range(16)))
    done = [answer for answer in answers if answer.status == 201]
    assert done
    assert len({answer.body for answer in done}) == 1
    assert sum(not replayed(answer) for answer in done) == 1
    for answer in answers:
        if answer.status != 201:
            assert refusal(answer) == (409, "request_in_progress")
            assert answer.headers["Retry-After"] == "1"
    assert await count(guarded, "/registries") == 1


async def test_a_twin_that_comes_before_the_answer_is_asked_to_wait(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries = services_of(guarded).registries
    create = registries.create
    waiting, running = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **fields: Any) -> Any:
        row = await create(*args, **fields)
        waiting.set()
        await running.wait()
        return row

    monkeypatch.setattr(registries, "create", slow)
    first = asyncio.create_task(post(guarded, "/registries", {"name": "a"}))
    await waiting.wait()
    twin = await post(guarded, "/registries", {"name": "a"})
    running.set()
    assert refusal(twin) == (409, "request_in_progress")
    assert twin.headers["Retry-After"] == "1"
    assert (await first).status == 201
    assert told(await post(guarded, "/registries", {"name": "a"})) == told(await first)


async def test_a_process_that_ends_before_it_can_answer_has_done_it_once(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: Any) -> None:
        raise DatabaseFailed("the process has ended")

    monkeypatch.setattr(idempotency, "answer", cut)
    assert (await post(guarded, "/registries", {"name": "a"})).status == 201
    monkeypatch.undo()
    assert refusal(await post(guarded, "/registries", {"name": "a"})) == (409, "request_in_progress")
    await pass_epochs(guarded, 3)
    lost = await post(guarded, "/registries", {"name": "a"})
    assert refusal(lost) == (409, "answer_lost")
    assert "Retry-After" not in lost.headers
    assert await count(guarded, "/registries") == 1


async def test_what_failed_has_not_claimed_the_key(guarded: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise DatabaseFailed("no")

    monkeypatch.setattr(accounts, "insert", fail)
    assert (await post(guarded, "/registries", {"name": "a"})).status == 503
    monkeypatch.undo()
    assert (await post(guarded, "/registries", {"name": "a"})).status == 201


async def test_a_key_outlives_a_restart_and_holds_for_a_second_process(root: Path) -> None:
    async with served_app(root) as client, served_app(root) as beside:
        first = await post(Registry(client, ADMIN), "/registries", {"name": "a"})
        again = [await post(Registry(beside, ADMIN), "/registries", {"name": "a"})]
    async with served_app(root) as client:
        again.append(await post(Registry(client, ADMIN), "/registries", {"name": "a"}))
    assert [told(answer)[1:] for answer in again] == [told(first)[1:]] * 2


async def test_a_key_is_forgotten_after_a_day_and_not_before(guarded: Registry) -> None:
    core = services_of(guarded).core
    housekeeping = Housekeeping(core)
    await post(guarded, "/registries", {"name": "a"})
    await pass_epochs(guarded, core.epochs(KEPT_SECONDS))
    assert await housekeeping.expire_keys() == 0
    assert replayed(await post(guarded, "/registries", {"name": "a"}))
    await pass_epochs(guarded, 1)
    await housekeeping.run_once()
    assert refusal(await post(guarded, "/registries", {"name": "a"})) == (409, "already_exists")


async def test_a_robot_s_password_is_made_again_and_stored_nowhere(guarded: Registry, root: Path) -> None:
    registry_id = await make_registry(guarded, "a")
    path = f"/registries/{registry_id}/robots"
    first, second = [await post(guarded, path, {"name": "ci"}) for _ in range(2)]
    assert told(first) == told(second)
    assert first.headers["Cache-Control"] == "no-store"
    assert await count(guarded, path) == 2
    assert (await login(guarded, second.json["data"]).send("GET", "/v2/")).status == 200
    password = first.json["data"]["password"]
    signature = password.rpartition(".")[2].encode()
    assert signature not in b"".join(file.read_bytes() for file in root.rglob("*") if file.is_file())
    lines = await services_of(guarded).core.db.fetch("SELECT action, reference FROM audit ORDER BY id")
    assert lines[-2:] == [("robot.create", "robot$a+ci"), ("credentials.read", "robot$a+ci")]


@pytest.mark.parametrize("of", ["registry", "robot"])
async def test_a_rotation_that_is_repeated_rotates_once(guarded: Registry, of: str) -> None:
    registry_id = await make_registry(guarded, "a")
    robot = (await call(guarded, "POST", f"/registries/{registry_id}/robots", {"name": "ci"})).json["data"]
    tail = "rotate-credentials" if of == "registry" else f"robots/{robot['id']}/rotate"
    answers = [await post(guarded, f"/registries/{registry_id}/{tail}", {"grace_seconds": 60}) for _ in range(3)]
    assert {answer.body for answer in answers} == {answers[0].body}
    assert [replayed(answer) for answer in answers] == [False, True, True]
    versions = await services_of(guarded).core.db.fetch("SELECT version FROM credentials ORDER BY version")
    assert versions == [(1,), (2,)]


async def test_an_api_token_is_shown_once_even_so(guarded: Registry) -> None:
    first, second = [await post(guarded, "/tokens", {"name": "ci", "scopes": ["read"]}) for _ in range(2)]
    made = first.json["data"]
    assert refusal(second) == (409, "answer_lost")
    assert second.json["error"]["details"] == [{"id": made["id"]}]
    assert await count(guarded, "/tokens") == 1
    rows = await services_of(guarded).core.db.fetch("SELECT body FROM idempotency_keys")
    assert made["token"][4:36] not in str(rows)


async def test_a_collection_is_begun_once_and_writes_on_under_no_key(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    first = await post(guarded, f"/registries/{registry_id}/gc")
    job = first.json["data"]["job_id"]
    assert (await ended(guarded, registry_id, job))["status"] == "completed"
    second = await post(guarded, f"/registries/{registry_id}/gc")
    assert (told(second), replayed(second)) == (told(first), True)
    assert refusal(await post(guarded, f"/registries/{registry_id}/gc", {})) == (422, "key_reused")
    assert await count(guarded, f"/registries/{registry_id}/gc") == 1


async def test_who_may_no_longer_ask_gets_no_answer_again(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    scopes = [f"registry:{registry_id}"]
    made = (await call(guarded, "POST", "/tokens", {"name": "ci", "scopes": scopes})).json["data"]
    holder = guarded.seen_by(f"Bearer {made['token']}")
    path = f"/registries/{registry_id}/robots"
    robot = (await post(holder, path, {"name": "ci"})).json["data"]
    assert (await call(guarded, "DELETE", f"{path}/{robot['id']}")).status == 204
    assert refusal(await post(holder, path, {"name": "ci"})) == (404, "not_found")
    assert (await call(guarded, "DELETE", f"/tokens/{made['id']}")).status == 204
    assert refusal(await post(holder, path, {"name": "ci"})) == (401, "unauthorized")


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
async def test_what_is_no_key_is_refused_and_nothing_is_done(guarded: Registry, key: str) -> None:
    assert refusal(await post(guarded, "/registries", {"name": "a"}, key)) == (400, "request_invalid")
    assert await count(guarded, "/registries") == 0


async def test_two_keys_are_refused(guarded: Registry) -> None:
    lines = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), *JSON.items()]
    answer = await guarded.send("POST", "/v1/registries", data=b'{"name": "a"}', headers=lines)
    assert refusal(answer) == (400, "request_invalid")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"{", (400, "malformed_json")),
        (b" " * (64 * 2**10 + 1), (413, "body_too_large")),
        (b"", (400, "malformed_json")),
    ],
    ids=["malformed", "large", "none"],
)
async def test_a_body_is_judged_as_without_a_key(guarded: Registry, content: bytes, wanted: tuple[int, str]) -> None:
    headers = {"Idempotency-Key": KEY, **JSON}
    assert refusal(await guarded.send("POST", "/v1/registries", data=content, headers=headers)) == wanted
    assert (await post(guarded, "/registries", {"name": "a"})).status == 201


async def test_other_methods_take_no_notice_of_a_key(guarded: Registry) -> None:
    registry_id = (await post(guarded, "/registries", {"name": "a"})).json["data"]["id"]
    headers = {"Idempotency-Key": KEY}
    for public in (True, False):
        changed = await call(guarded, "PATCH", f"/registries/{registry_id}", {"public": public}, headers=headers)
        assert changed.json["data"]["public"] is public
    assert (await call(guarded, "DELETE", f"/registries/{registry_id}", headers=headers)).status == 204
