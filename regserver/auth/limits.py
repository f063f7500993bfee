"""Limits against guessing, and against one client that takes everything. Nothing is correct only because of them.

So they live in memory, bounded, on the monotonic clock of this process, and begin anew when it does.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache

from regserver.errors import ErrorCode, RegistryError
from regserver.storage import evidence

Clock = Callable[[], float]

MOST = 10_000  # keys remembered; beyond, the one that was used longest ago is forgotten
NAMES = 5  # so many times the limit of one name: how many names may fail from one address
REFUSED = 10  # so many times the limit may be refused before what has passed earlier is refused too
BURST_SECONDS = 10  # of the allowed rate, at once
NAME_LENGTH = 255  # no account's name is longer: what is, counts as one name, or memory would hold what strangers send
_OVERLONG = "overlong"
_IPV6_SITE = 64  # bits of the network that one subscriber holds (RFC 6177)


@lru_cache(maxsize=MOST)
def place(address: str) -> str:
    """What counts as one address: an IPv6 subscriber has 2⁶⁴ of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, _IPV6_SITE), strict=False))


def too_many(seconds: float, message: str) -> RegistryError:
    """The refusal, for a client that may come again after ``seconds``."""
    wait = max(1, math.ceil(seconds))
    return RegistryError(
        ErrorCode.TOO_MANY_REQUESTS,
        {"retry_after_seconds": wait},
        message=f"{message}; try again in {wait} s",
        headers={"Retry-After": str(wait)},
    )


class Buckets:
    """A token bucket for each key: ``burst`` at once, ``rate`` a second on average. A key never seen has a full one."""

    def __init__(self, burst: float, rate: float, clock: Clock = time.monotonic, most: int = MOST) -> None:
        self._burst, self._rate, self._clock, self._most = burst, rate, clock, most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key: (level, when it was)

    def take(self, key: Hashable) -> float:
        """0, and one is taken; or the seconds until there is one, and nothing is."""
        if wait := self.wait(key):
            return wait
        self._set(key, self.level(key) - 1)
        return 0.0

    def wait(self, key: Hashable) -> float:
        """The seconds until there is one; 0 if there is."""
        return max(0.0, 1 - self.level(key)) / self._rate

    def give(self, key: Hashable) -> None:
        """One back."""
        self._set(key, min(self._burst, self.level(key) + 1))

    def forget(self, key: Hashable) -> None:
        self._levels.pop(key, None)

    def level(self, key: Hashable) -> float:
        level, when = self._levels.get(key, (self._burst, 0.0))
        return min(self._burst, level + (self._clock() - when) * self._rate)

    def is_full(self, key: Hashable) -> bool:
        return self.level(key) >= self._burst

    def __len__(self) -> int:
        return len(self._levels)

    def _set(self, key: Hashable, level: float) -> None:
        self._levels[key] = level, self._clock()
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


class Requests:
    """Requests of one address, and of one credential wherever it is used. ``per_second`` 0 sets no limit.

    A credential counts once it has passed: else a stranger could use up another's by its name.
    """

    def __init__(self, per_second: int, clock: Clock = time.monotonic) -> None:
        self._buckets = Buckets(per_second * BURST_SECONDS, per_second, clock) if per_second else None

    def admit_address(self, address: str) -> None:
        """Raises RegistryError TOO_MANY_REQUESTS."""
        self._admit("address", place(address))

    def admit_credential(self, subject: str) -> None:
        """Raises RegistryError TOO_MANY_REQUESTS. Nobody has no credential to count."""
        if subject:
            self._admit("credential", subject)

    def _admit(self, kind: str, key: str) -> None:
        if self._buckets is None:
            return
        evidence.once()  # every one counts
        if wait := self._buckets.take((kind, key)):
            raise too_many(wait, f"too many requests of this {kind}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login that may be compared; what became of it must be said by ``passed`` or ``failed``, and then ``left``."""

    place: str
    name: str
    fingerprint: bytes
    is_known: bool  # these very credentials have passed before, from there
    is_first: bool  # the name has not failed lately, from there
    is_joined: bool  # the same is being compared already: many at once are one guess


class Logins:
    """Failed logins, counted for a name from an address: whoever guesses one name locks nobody else out.

    Over the limit a password is refused before it is compared, the right one too, so that a guesser learns nothing.
    Credentials that have passed from that address before go on to pass: behind one address stand many, and a wrong
    password of one does not stop another that uses the same name. That ends where somebody there goes on guessing all
    the same, or they would find out what passes. How many names may fail from one address has a limit of its own.
    ``per_minute`` 0 sets none.
    """

    def __init__(self, per_minute: int, clock: Clock = time.monotonic) -> None:
        self._is_limited = per_minute > 0
        self._names = Buckets(per_minute, per_minute / 60, clock)
        self._refused = Buckets(per_minute * REFUSED, per_minute * REFUSED / 60, clock)
        self._places = Buckets(per_minute * NAMES, per_minute * NAMES / 60, clock)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._comparing: Counter[bytes] = Counter()  # as many as there are requests
        self._secret = secrets.token_bytes(32)  # what is remembered tells no password to whoever reads memory

    def enter(self, address: str, name: str, password: str) -> Attempt:
        """Before any comparison. Raises RegistryError TOO_MANY_REQUESTS."""
        where = place(address)
        fingerprint = self._fingerprint(where, name, password)
        # A token without a name is a name of its own: one that has ended, in somebody's script, locks no other one out.
        counted = (name if len(name) <= NAME_LENGTH else _OVERLONG) or fingerprint.hex()
        is_first = self._names.is_full((where, counted))
        is_known, is_joined = fingerprint in self._known, fingerprint in self._comparing
        attempt = Attempt(where, counted, fingerprint, is_known, is_first, is_joined)
        if self._is_limited and not is_joined and (wait := self._wait(attempt)):
            raise too_many(wait, "too many failed logins")
        self._comparing[fingerprint] += 1
        return attempt

    def left(self, attempt: Attempt) -> None:
        """It is not compared any more, however that ended."""
        self._comparing[attempt.fingerprint] -= 1
        if not self._comparing[attempt.fingerprint]:
            del self._comparing[attempt.fingerprint]

    def _wait(self, attempt: Attempt) -> float:
        """0, or the seconds until it may be compared."""
        key = attempt.place, attempt.name
        if attempt.is_known:
            return self._refused.wait(key)
        if attempt.is_first and (wait := self._places.take(attempt.place)):
            return wait
        if wait := self._names.take(key):
            self._refused.take(key)
        return wait

    def passed(self, attempt: Attempt) -> None:
        """Remembers it. A fresh success ends the count; what passes all the time does not refill a guesser's."""
        if not self._is_limited:
            return
        self._known[attempt.fingerprint] = None
        self._known.move_to_end(attempt.fingerprint)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        if not attempt.is_known and not attempt.is_joined:
            self._names.forget((attempt.place, attempt.name))
            if attempt.is_first:
                self._places.give(attempt.place)

    def failed(self, attempt: Attempt) -> None:
        """What was good before and is no longer counts from now on."""
        if attempt.is_known and not attempt.is_joined:
            self._known.pop(attempt.fingerprint, None)
            self._names.take((attempt.place, attempt.name))

    def _fingerprint(self, where: str, name: str, password: str) -> bytes:
        text = "\0".join((where, name, password)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, text, hashlib.sha256)
