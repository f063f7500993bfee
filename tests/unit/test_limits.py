"""What is counted against guessing and against greed: for whom, how long, and in how much memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest

from regserver.auth.limits import MOST, NAMES, REFUSED, Buckets, Logins, Requests, place
from regserver.errors import ErrorCode, RegistryError
from support.clocks import Hands

HERE, THERE = "192.0.2.1", "192.0.2.2"
LIMIT = 20


@pytest.fixture
def hands() -> Hands:
    return Hands()


def attempt(logins: Logins, name: str, *, good: bool, address: str = HERE, secret: str | None = None) -> str:
    """What becomes of one login: passed, failed, or refused before it is compared."""
    try:
        entered = logins.enter(address, name, secret or ("right" if good else "wrong"))
    except RegistryError as error:
        assert error.code is ErrorCode.TOO_MANY_REQUESTS
        assert int(error.headers["Retry-After"]) >= 1
        return "refused"
    logins.left(entered)
    (logins.passed if good else logins.failed)(entered)
    return "passed" if good else "failed"


def wrong(logins: Logins, name: str, times: int, address: str = HERE) -> Counter[str]:
    return Counter(attempt(logins, name, good=False, address=address) for _ in range(times))


# ---------------------------------------------------------------- buckets


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate(hands: Hands) -> None:
    buckets = Buckets(3, 0.5, hands)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2]
    hands.now += 2
    assert [buckets.take("a") for _ in range(2)] == [0, 2]


def test_a_refusal_takes_nothing(hands: Hands) -> None:
    buckets = Buckets(1, 1, hands)
    buckets.take("a")
    hands.now += 0.5
    assert [buckets.take("a") for _ in range(3)] == [0.5, 0.5, 0.5]


def test_a_bucket_is_never_fuller_than_its_burst(hands: Hands) -> None:
    buckets = Buckets(2, 1, hands)
    buckets.take("a")
    hands.now += 1000
    buckets.give("a")
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 1]


def test_buckets_remember_so_many_keys_and_forget_the_one_unused_for_longest(hands: Hands) -> None:
    buckets = Buckets(1, 1, hands, most=3)
    for key in ("a", "b", "c", "d"):
        buckets.take(key)
    assert len(buckets) == 3
    assert [bool(buckets.wait(key)) for key in ("a", "b", "c", "d")] == [False, True, True, True]


# ---------------------------------------------------------------- places


def test_an_ipv6_subscriber_is_one_place_and_his_neighbour_another() -> None:
    assert place("2001:db8::1") == place("2001:db8::ffff:1")
    assert place("2001:db8::1") != place("2001:db8:0:1::1")
    assert place(HERE) != place(THERE)


# ---------------------------------------------------------------- logins


def test_a_name_may_fail_so_often_from_an_address_and_then_waits(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    assert wrong(logins, "a", LIMIT + 1) == {"failed": LIMIT, "refused": 1}
    assert attempt(logins, "a", good=True) == "refused"
    hands.now += 60 / LIMIT
    assert wrong(logins, "a", 2) == {"failed": 1, "refused": 1}


def test_ten_wrong_passwords_of_docker_lock_nobody_else_out(hands: Hands) -> None:
    """It tries each of them twice."""
    logins = Logins(LIMIT, hands)
    assert wrong(logins, "a", 10 * 2) == {"failed": LIMIT}
    assert attempt(logins, "b", good=True) == "passed"
    assert attempt(logins, "a", good=True, address=THERE) == "passed"


def test_what_has_passed_from_there_before_passes_still(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    assert attempt(logins, "a", good=True) == "passed"
    wrong(logins, "a", LIMIT + 1)
    assert attempt(logins, "a", good=True) == "passed"
    assert attempt(logins, "a", good=True, address=THERE) == "passed"


def test_one_who_guesses_on_does_not_find_out_what_passes(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    attempt(logins, "a", good=True)
    wrong(logins, "a", LIMIT + LIMIT * REFUSED)
    assert attempt(logins, "a", good=True) == "refused"


def test_a_success_ends_the_count_but_one_that_is_known_does_not_refill_a_guessers(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    wrong(logins, "a", LIMIT - 1)
    assert attempt(logins, "a", good=True) == "passed"
    assert wrong(logins, "a", LIMIT) == {"failed": LIMIT}
    assert attempt(logins, "a", good=True) == "passed"
    assert wrong(logins, "a", 1) == {"refused": 1}


def test_what_was_good_and_is_not_any_more_counts(hands: Hands) -> None:
    logins = Logins(1, hands)
    attempt(logins, "a", good=True, secret="old")
    assert attempt(logins, "a", good=False, secret="old") == "failed"
    assert attempt(logins, "a", good=False, secret="old") == "refused"


def test_names_from_one_address_have_a_limit_of_their_own(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    attempt(logins, "known", good=True)
    for number in range(LIMIT * NAMES):
        assert attempt(logins, f"n{number}", good=False) == "failed"
    assert attempt(logins, "another", good=False) == "refused"
    assert attempt(logins, "known", good=True) == "passed"
    assert attempt(logins, "another", good=True, address=THERE) == "passed"


def test_attempts_at_the_same_moment_are_counted_before_any_is_compared(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    entered = [logins.enter(HERE, "a", f"guess {number}") for number in range(LIMIT)]
    with pytest.raises(RegistryError):
        logins.enter(HERE, "a", "one more")
    for one in entered:
        logins.failed(one)


def test_zero_sets_no_limit(hands: Hands) -> None:
    assert wrong(Logins(0, hands), "a", 500) == {"failed": 500}
    requests = Requests(0, hands)
    for _ in range(500):
        requests.admit_address(HERE)
        requests.admit_credential("a")


# ---------------------------------------------------------------- requests


def admitted(count: int, admit: object, key: str) -> int:
    assert callable(admit)
    passed = 0
    for _ in range(count):
        try:
            admit(key)
        except RegistryError as error:
            assert error.code is ErrorCode.TOO_MANY_REQUESTS
        else:
            passed += 1
    return passed


def test_requests_of_an_address_and_of_a_credential_are_counted_apart(hands: Hands) -> None:
    requests = Requests(2, hands)
    assert admitted(30, requests.admit_address, HERE) == 20
    assert admitted(30, requests.admit_address, THERE) == 20
    assert admitted(30, requests.admit_credential, HERE) == 20
    assert admitted(30, requests.admit_credential, "") == 30
    hands.now += 3
    assert admitted(30, requests.admit_address, HERE) == 6


# ---------------------------------------------------------------- memory


def test_strangers_cannot_fill_the_memory_of_limits(hands: Hands) -> None:
    """A million addresses, names as long as a header holds them: what is remembered of all of them has an end."""
    logins, requests = Logins(LIMIT, hands), Requests(100, hands)
    tracemalloc.start()
    try:
        for number in range(3 * MOST):
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            requests.admit_address(address)
            requests.admit_credential(f"robot$r{number}")
            good = number % 2 == 0
            attempt(logins, f"robot$r{number}" if good else f"{number:08}" * 1000, good=good, address=address)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 24 * 2**20


def test_many_that_say_the_same_at_once_are_one_guess(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    entered = [logins.enter(HERE, "a", "wrong") for _ in range(5 * LIMIT)]
    for one in entered:
        logins.left(one)
        logins.failed(one)
    assert wrong(logins, "a", LIMIT) == Counter(failed=LIMIT - 1, refused=1)
    assert logins._comparing == Counter()


def test_the_right_password_may_come_many_times_at_once(hands: Hands) -> None:
    logins = Logins(LIMIT, hands)
    for one in [logins.enter(HERE, "a", "right") for _ in range(5 * LIMIT)]:
        logins.left(one)
        logins.passed(one)
    assert wrong(logins, "a", LIMIT + 1) == Counter(failed=LIMIT, refused=1)
