"""Limits as clients meet them: who guesses is stopped, who does not is let in, and the answer says when to come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import encode_basic_auth

from regserver.auth.gate import PLACE_LINES, Gate
from regserver.auth.limits import NAMES
from support.clocks import Hands
from support.managing import call, refusal, services_of
from support.pushing import Answer, Registry, draw_token
from support.registry import ADMIN, ADMIN_TOKEN, served_app

LIMIT = 20  # the default of --failed-logins-per-minute
WAIT = "3"  # seconds until the next of 20 a minute
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Open = Callable[..., AbstractAsyncContextManager[Registry]]


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The clock of limits: it stands still."""
    hands = Hands()
    monkeypatch.setattr("regserver.app.Gate", lambda core, authenticator: Gate(core, authenticator, hands))
    return hands


@pytest.fixture
def opened(root: Path, hands: Hands) -> Open:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Registry]:
        """As the administrator sees it. Whoever tests this may say from where he comes."""
        async with served_app(root, trusted_proxies=("127.0.0.0/8",), **settings) as client:
            yield Registry(client, ADMIN)

    return opened


@pytest.fixture
async def admin(opened: Open) -> AsyncIterator[Registry]:
    async with opened() as registry:
        yield registry


async def log_in(asker: Registry, address: str = "192.0.2.1") -> Answer:
    return await asker.send("GET", "/token", headers={"X-Forwarded-For": address})


def guessing(registry: Registry, name: str, password: str = "wrong") -> Registry:
    return registry.seen_by(encode_basic_auth(name, password))


async def guess_as_docker_does(registry: Registry, name: str, address: str = "192.0.2.1") -> list[int]:
    """One wrong password: a challenge is fetched, then the form is tried, then Basic."""
    headers = {"X-Forwarded-For": address}
    await registry.seen_by(None).send("GET", "/v2/", headers=headers)
    form = urlencode({"grant_type": "password", "username": name, "password": "wrong"}).encode()
    posted = await registry.seen_by(None).send("POST", "/token", data=form, headers={**headers, **FORM})
    return [posted.status, (await log_in(guessing(registry, name), address)).status]


async def use_up(registry: Registry, name: str) -> None:
    for _ in range(LIMIT):
        assert (await log_in(guessing(registry, name))).refusal == (401, "UNAUTHORIZED")


async def test_ten_wrong_passwords_of_docker_cost_twenty_attempts_and_lock_nobody_else_out(admin: Registry) -> None:
    one, other = [admin.seen_by(await admin.make_robot(name)) for name in ("one", "other")]
    for _ in range(10):
        assert await guess_as_docker_does(admin, "robot$one") == [401, 401]
    assert (await log_in(one)).status == 429
    assert (await log_in(other)).status == 200
    assert (await log_in(one, "192.0.2.2")).status == 200
    assert (await call(admin, "GET", "/registries", headers={"X-Forwarded-For": "192.0.2.1"})).status == 200


async def test_beyond_the_limit_right_and_wrong_are_refused_alike_and_told_when_to_come_again(
    admin: Registry, hands: Hands
) -> None:
    robot = admin.seen_by(await admin.make_robot("a"))
    await use_up(admin, "robot$a")
    right, wrong = await log_in(robot), await log_in(guessing(admin, "robot$a"))
    assert (right.status, right.body, right.headers["Retry-After"]) == (429, wrong.body, WAIT)
    assert right.refusal == wrong.refusal == (429, "TOOMANYREQUESTS")
    assert wrong.headers["Retry-After"] == WAIT
    hands.now += float(WAIT)
    assert (await log_in(robot)).status == 200


@pytest.mark.parametrize("path", ["/v2/", "/v2/a/app/tags/list", "/token"])
async def test_every_way_to_try_a_password_counts(admin: Registry, path: str) -> None:
    await admin.make_robot("a")
    guesser = guessing(admin, "robot$a")
    statuses = Counter([(await guesser.send("GET", path)).status for _ in range(LIMIT + 5)])
    assert statuses == {401: LIMIT, 429: 5}


async def test_two_ways_to_write_a_name_are_one_name(admin: Registry) -> None:
    await admin.make_robot("a")
    await use_up(admin, "robot$a")
    assert (await log_in(guessing(admin, "robot%24a"))).status == 429


async def test_an_api_token_that_has_ended_is_refused_in_the_apis_form_and_locks_no_other_out(admin: Registry) -> None:
    guesser = admin.seen_by("Bearer rsv_ended")
    answers = [await call(guesser, "GET", "/registries") for _ in range(LIMIT + 1)]
    assert {refusal(answer) for answer in answers[:-1]} == {(401, "unauthorized")}
    assert refusal(answers[-1]) == (429, "too_many_requests")
    assert answers[-1].headers["Retry-After"] == WAIT
    assert answers[-1].json["error"]["details"] == [{"retry_after_seconds": int(WAIT)}]
    assert (await call(admin.seen_by(f"Bearer {ADMIN_TOKEN}"), "GET", "/registries")).status == 200


async def test_guesses_at_api_tokens_from_one_address_have_a_limit(admin: Registry) -> None:
    async def guess(number: int) -> int:
        return (await call(admin.seen_by(f"Bearer rsv_guess{number}"), "GET", "/registries")).status

    assert Counter([await guess(number) for number in range(LIMIT * NAMES + 5)]) == {401: LIMIT * NAMES, 429: 5}
    assert (await call(admin.seen_by(f"Bearer {ADMIN_TOKEN}"), "GET", "/registries")).status == 429
    elsewhere = {"X-Forwarded-For": "192.0.2.2"}
    assert (await call(admin.seen_by(f"Bearer {ADMIN_TOKEN}"), "GET", "/registries", headers=elsewhere)).status == 200


async def test_who_has_logged_in_before_is_not_locked_out_by_a_neighbour_with_the_same_name(admin: Registry) -> None:
    robot = admin.seen_by(await admin.make_robot("a"))
    assert (await log_in(robot)).status == 200
    await use_up(admin, "robot$a")
    assert (await log_in(guessing(admin, "robot$a"))).status == 429
    assert (await log_in(robot)).status == 200


async def test_a_bearer_token_works_on_whatever_others_guess(admin: Registry) -> None:
    robot = admin.seen_by(await admin.make_robot("a"))
    bearer = robot.seen_by(await draw_token(robot, "repository:a/app:pull,push"))
    await use_up(admin, "robot$a")
    started = await bearer.send("POST", "/v2/a/app/blobs/uploads/", headers={"X-Forwarded-For": "192.0.2.1"})
    assert started.status == 202


async def test_guesses_at_the_same_moment_do_not_slip_through(admin: Registry) -> None:
    await admin.make_robot("a")
    answers = await asyncio.gather(*(log_in(guessing(admin, "robot$a", f"guess {number}")) for number in range(64)))
    assert Counter(answer.status for answer in answers) == {401: LIMIT, 429: 64 - LIMIT}


async def test_no_limit_on_guesses_where_none_is_set(opened: Open) -> None:
    async with opened(failed_logins_per_minute=0) as admin:
        statuses = [(await log_in(guessing(admin, "robot$a"))).status for _ in range(50)]
    assert set(statuses) == {401}


async def test_guesses_leave_few_lines_in_the_audit_log(admin: Registry) -> None:
    for name in ("one", "other"):
        await use_up(admin, f"robot${name}")
    db = services_of(admin).core.db
    rows = await db.fetch("SELECT actor, result FROM audit WHERE action = 'login.failed'")
    assert rows == [("robot$one", "denied")] * PLACE_LINES


# ---------------------------------------------------------------- requests

PER_SECOND, BURST = 2, 20


@pytest.fixture
async def busy(opened: Open) -> AsyncIterator[Registry]:
    async with opened(requests_per_second=PER_SECOND) as registry:
        yield registry


async def send_many(asker: Registry, count: int, path: str = "/v2/", address: str | None = None) -> Counter[int]:
    """From one address, or each request from another one."""
    headers = [{"X-Forwarded-For": address or f"198.51.100.{number}"} for number in range(count)]
    return Counter([(await asker.send("GET", path, headers=line)).status for line in headers])


async def test_an_address_has_a_share_and_another_one_its_own(busy: Registry, hands: Hands) -> None:
    nobody = busy.seen_by(None)
    assert await send_many(nobody, BURST + 5, address="192.0.2.1") == {401: BURST, 429: 5}
    assert await send_many(nobody, 5, address="192.0.2.2") == {401: 5}
    hands.now += 2
    assert await send_many(nobody, 5, address="192.0.2.1") == {401: 2 * PER_SECOND, 429: 1}


async def test_a_credential_has_a_share_wherever_it_is_used(busy: Registry) -> None:
    one, other = [busy.seen_by(await busy.make_robot(name)) for name in ("one", "other")]
    assert await send_many(one, BURST + 5) == {200: BURST, 429: 5}
    assert await send_many(other, 5) == {200: 5}


async def test_drawing_tokens_is_a_request_of_the_credential_too(busy: Registry) -> None:
    robot = busy.seen_by(await busy.make_robot("a"))
    assert await send_many(robot, BURST + 5, "/token") == {200: BURST, 429: 5}
    assert await send_many(robot, 1) == {429: 1}


async def test_a_stranger_cannot_use_up_the_share_of_a_credential_by_its_name(busy: Registry) -> None:
    robot = busy.seen_by(await busy.make_robot("a"))
    await send_many(guessing(busy, "robot$a"), BURST + 5)
    assert await send_many(robot, 5) == {200: 5}


async def test_the_refusal_says_when_to_come_again_in_the_form_of_each_api(busy: Registry) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    await send_many(busy, BURST, address="192.0.2.1")
    pushed = await busy.send("GET", "/v2/", headers=headers)
    managed = await call(busy, "GET", "/registries", headers=headers)
    assert pushed.refusal == (429, "TOOMANYREQUESTS")
    assert refusal(managed) == (429, "too_many_requests")
    assert [answer.headers["Retry-After"] for answer in (pushed, managed)] == ["1", "1"]


async def test_health_is_never_limited(busy: Registry) -> None:
    assert await send_many(busy, BURST + 5, "/healthz", "192.0.2.1") == {200: BURST + 5}


async def test_what_an_untrusted_peer_forwards_makes_no_new_address(root: Path, hands: Hands) -> None:
    async with served_app(root, requests_per_second=PER_SECOND) as client:
        assert await send_many(Registry(client), BURST + 5) == {401: BURST, 429: 5}


async def test_development_mode_limits_nothing(root: Path, hands: Hands) -> None:
    async with served_app(root, dev=True, requests_per_second=PER_SECOND) as client:
        assert await send_many(guessing(Registry(client), "robot$a"), BURST + 5) == {200: BURST + 5}
