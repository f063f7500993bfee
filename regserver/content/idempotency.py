"""A request that is sent twice under one key is carried out once.

The key is claimed in the first transaction that the request commits, before anything else in it: what was asked is
done with the claim or not at all, and of two that race the table lets one through. So no process that ends in between,
and no second process, does it again. The answer is kept by a transaction of its own, after that one and before it is
given: a process that ends between the two leaves a claim without an answer, and then it is the answer that is lost,
never the guarantee.

A refusal is raised inside the transaction: it rolls the claim back with it, and the key may come again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from regserver.storage.catalog import idempotency
from regserver.storage.sql.port import Database, Transaction

T = TypeVar("T")

KEPT_SECONDS = 24 * 3600
UNANSWERED_EPOCHS = 2  # so old a claim without an answer gets none any more


class KeyTaken(Exception):
    """Another request has claimed the key; nothing of this one was done."""


@dataclass(slots=True)
class Claim:
    """A key of a principal's, and the fingerprint of the request that comes with it."""

    principal: str
    key: str
    fingerprint: str
    is_open: bool = False


_current: ContextVar[Claim | None] = ContextVar("claim", default=None)


@contextmanager
def claiming(claim: Claim) -> Iterator[None]:
    """What is first written inside claims the key. Tasks that are begun inside and go on behind it claim nothing."""
    claim.is_open = True
    before = _current.set(claim)
    try:
        yield
    finally:
        claim.is_open = False
        _current.reset(before)


class ClaimingDatabase:
    """A Database whose transactions claim the key of the request that they belong to, if it has one.

    ``write`` raises KeyTaken besides."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.fetch = database.fetch  # reads claim nothing, and are the most frequent
        self.read = database.read

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        claim = _current.get()
        if claim is None or not claim.is_open:
            return await self._database.write(body)
        mine = claim

        async def claimed(tx: Transaction) -> T:
            if not await idempotency.claim(tx, mine.principal, mine.key, mine.fingerprint):
                raise KeyTaken
            return await body(tx)

        result = await self._database.write(claimed)
        claim.is_open = False
        return result

    async def close(self) -> None:
        await self._database.close()
