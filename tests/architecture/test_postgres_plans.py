"""Every statement of the catalog is understood by PostgreSQL too, and finds an index there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from support import postgres
from support.statements import PLACEHOLDER, STATEMENTS

# Statements that may walk a table or an index of it, "module.NAME: table or index", and why that is bounded. Seen on
# empty tables and without sequential scans, as sessions have it: the planner then takes an index where there is one.
WALKS = {
    "api_tokens._COUNT: api_tokens_hash_key": "an administrator lists the tokens, which administrators made one by one",
    "api_tokens._PAGE: api_tokens_pkey": "stops at LIMIT, in the order of the key",
    "audit.OLDEST: audit_pkey": "stops at LIMIT, in the order of the key",
    "copies._NO_HOLDS: trash_holds": "a backup empties these in its copy of the catalog",
    "copies._NO_TRASH: trash": "a backup empties these in its copy of the catalog",
    "copies._NO_UPLOADS: uploads": "a backup empties these in its copy of the catalog",
    "events.LAST: events_pkey": "stops at LIMIT, in the order of the key",
    "events.OLDEST: events_pkey": "stops at LIMIT, in the order of the key",
    "figures._BLOBS: blobs": "five minutes apart at least, off the loop, for the metrics",
    "figures._FIGURES: gc_jobs_running": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: registries": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: registries_by_name": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: repositories": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: repositories_registry_id_name_key": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: blob_leases_by_epoch": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: manifest_leases_by_epoch": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: trash_by_digest": "ten seconds apart at least, off the loop, for the metrics",
    "figures._FIGURES: uploads_by_epoch": "ten seconds apart at least, off the loop, for the metrics",
    "garbage.BATCH: trash_holds": "a row per backup that runs now",
    "garbage.BATCH: trash_by_digest": "stops at LIMIT, in the order of the folders",
    "garbage.WAITING: trash_holds": "a row per backup that runs now",
    "holds._EXPIRE: trash_holds": "a row per backup that runs now",
    "jobs._ADVANCE: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "jobs._ASK: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "jobs._CANCEL: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "jobs._COMPLETE: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "jobs._FAIL: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "jobs._IS_RUNNING: gc_jobs_running": "the index holds what runs, one for a registry at the most",
    "registries._PAGES: registries_by_name": "a page of the tenants sorts and counts them all",
    "saved._NEWEST: audit_pkey": "stops at LIMIT, in the order of the key",
    "scrub.ANY_ROTTEN: blobs_rotten": "an index of nothing but what has rotted",
    "scrub.ANY_ROTTEN: manifests_rotten": "an index of nothing but what has rotted",
    "scrub.DAMAGE: blobs_rotten": "an index of nothing but what has rotted",
    "scrub.DAMAGE: manifests_rotten": "an index of nothing but what has rotted",
    "scrub.ROTTEN_BLOBS: blobs_rotten": "an index of nothing but what has rotted",
    "scrub.ROTTEN_MANIFESTS: manifests_rotten": "an index of nothing but what has rotted",
    "scrub.TOTAL: blobs": "once in a pass, off the loop, to say how far it is",
}


@pytest.fixture(scope="module")
def plans() -> dict[str, Any]:
    """A plan for any arguments, by the statement's name; or the error. On tables that nothing was ever in: what a
    planner has seen of a table changes its mind."""
    url = postgres.server().new_schema()
    asyncio.run(postgres.migrated(url))
    return asyncio.run(explain_all(url))


async def explain_all(url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(
        url, server_settings={"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
    )
    try:
        return {name: await explain(connection, sql) for name, sql in STATEMENTS.items()}
    finally:
        await connection.close()


async def explain(connection: Any, sql: str) -> Any:
    arguments = ", ".join("NULL" for _ in set(PLACEHOLDER.findall(sql)))
    try:
        await connection.execute(f"PREPARE asked AS {sql}")
    except asyncpg.PostgresError as error:
        return error
    plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments and f'({arguments})'}")
    await connection.execute("DEALLOCATE asked")
    return json.loads(plan)[0]["Plan"]


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from steps(below)


def walked(plan: dict[str, Any]) -> Iterator[str]:
    """Tables and indexes that a plan goes through from end to end."""
    for step in steps(plan):
        if step["Node Type"] == "Seq Scan":
            yield step["Relation Name"]
        elif "Index Name" in step and "Index Cond" not in step:
            yield step["Index Name"]


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_is_accepted_by_the_migrated_schema(plans: dict[str, Any], name: str) -> None:
    assert not isinstance(plans[name], Exception), plans[name]


def test_no_statement_walks_a_whole_table_without_a_reason(plans: dict[str, Any]) -> None:
    walks = {f"{name.split('[')[0]}: {what}" for name, plan in plans.items() for what in walked(plan)}
    assert walks - set(WALKS) == set(), "add an index, or a reason to WALKS"
    assert set(WALKS) - walks == set(), "these reasons are not needed any more"
