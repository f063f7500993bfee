"""What a claim holds: the first transaction of its request, and nothing that goes on behind it."""

import asyncio
from pathlib import Path

import pytest

from regserver.content.idempotency import Claim, ClaimingDatabase, KeyTaken, claiming
from regserver.storage.catalog import idempotency
from regserver.storage.sql.port import Transaction
from support.identities import opened_house


async def note(tx: Transaction) -> None:
    await tx.execute("INSERT INTO installation (name, value) VALUES ('note', 'x')")


async def forget(tx: Transaction) -> None:
    await tx.execute("DELETE FROM installation WHERE name = 'note'")


async def test_the_first_transaction_claims_and_the_next_ones_pass(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        db = ClaimingDatabase(house.core.db)
        with claiming(Claim("admin", "k", "f")):
            await db.write(note)
            await db.write(forget)
        row = await idempotency.find(db, "admin", "k")
        assert row is not None
        assert (row.fingerprint, row.answer) == ("f", None)


async def test_a_claim_that_comes_second_does_nothing(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        db = ClaimingDatabase(house.core.db)
        with claiming(Claim("admin", "k", "f")):
            await db.write(forget)
        with claiming(Claim("admin", "k", "f")), pytest.raises(KeyTaken):
            await db.write(note)
        assert await db.fetch("SELECT value FROM installation WHERE name = 'note'") == []


async def test_a_transaction_that_fails_claims_nothing(tmp_path: Path) -> None:
    async def fail(tx: Transaction) -> None:
        await note(tx)
        raise ValueError("no")

    async with opened_house(tmp_path) as house:
        db = ClaimingDatabase(house.core.db)
        with claiming(Claim("admin", "k", "f")), pytest.raises(ValueError, match="no"):
            await db.write(fail)
        assert await idempotency.find(db, "admin", "k") is None
        with claiming(Claim("admin", "k", "f")):
            await db.write(note)


async def test_a_task_that_goes_on_behind_its_request_claims_nothing(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        db, over = ClaimingDatabase(house.core.db), asyncio.Event()

        async def behind() -> None:
            await over.wait()
            await db.write(note)

        with claiming(Claim("admin", "k", "f")):
            task = asyncio.create_task(behind())
        over.set()
        await task
        assert await idempotency.find(db, "admin", "k") is None
