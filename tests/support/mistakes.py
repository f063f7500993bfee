"""Single decisions of the real code made wrongly, by the lemmas of docs/gc-proof.md. What is patched is put back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from regserver.content import admission, collector, leasing, quarantine
from regserver.content.collector import Collector, floors
from regserver.content.core import Core, Usage
from regserver.content.manifests import Manifests
from regserver.content.uploads import StartedUpload, Uploads
from regserver.model.access import Caller, Target
from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.model.manifest import parse_manifest
from regserver.storage.blobs import layout
from regserver.storage.blobs.port import Staged
from regserver.storage.catalog import blobs, garbage, leases, repositories
from regserver.storage.catalog import manifests as manifest_rows
from regserver.storage.catalog import uploads as rows
from regserver.storage.sql import sqlite
from regserver.storage.sql.port import Transaction

Mistake = Callable[[pytest.MonkeyPatch], None]


def key_not_registered(patch: pytest.MonkeyPatch) -> None:
    """L1: the file is made first, and its row follows."""

    async def start(
        self: Uploads, target: Target, caller: Caller, algorithm: Algorithm, *, whole: bool = False
    ) -> StartedUpload:
        upload_id, key = new_secret(), new_secret()
        await self._core.blobs.begin(key, algorithm)

        async def body(tx: Transaction) -> Usage:
            repository_id = await repositories.ensure(tx, target)
            await rows.insert(tx, upload_id, key, repository_id, caller.account.subject, algorithm, 0)
            return await self._core.usage(tx, target.registry_id)

        return StartedUpload(upload_id, await self._core.db.write(body))

    patch.setattr(Uploads, "start", start)


def no_recheck_at_finalise(patch: pytest.MonkeyPatch) -> None:
    """L2: finalise trusts that its row is still there."""
    take = rows.take

    async def trusting(tx: Transaction, upload_id: str, key: str) -> bool:
        await take(tx, upload_id, key)
        return True

    patch.setattr(rows, "take", trusting)


def digest_named_files(patch: pytest.MonkeyPatch) -> None:
    """L3: one file for all uploads of a digest."""
    patch.setattr(layout, "_name", lambda key, digest: f"{digest.hex}.{'0' * 32}")


def no_recheck_at_put(patch: pytest.MonkeyPatch) -> None:
    """L4: the edges are looked up in a transaction before the one that inserts them."""
    prove, put = admission._prove, Manifests.put

    async def put_what_was_proven(
        self: Manifests, target: Target, caller: Caller, digest: Any, names: Any, content: bytes, content_type: Any
    ) -> Any:
        async def body(tx: Transaction) -> Any:
            repository_id = await repositories.ensure(tx, target)
            return await prove(self._core, tx, target, repository_id, caller, parse_manifest(content, content_type))

        plan = await self._core.db.write(body)

        async def trusting(*_: Any) -> Any:
            return plan

        patch.setattr(admission, "_prove", trusting)
        return await put(self, target, caller, digest, names, content, content_type)

    patch.setattr(Manifests, "put", put_what_was_proven)


def condemn_in_two_transactions(patch: pytest.MonkeyPatch) -> None:
    """L5: the key goes into the trash in one, and the row goes in the next if it is still free."""

    async def condemn(self: Collector, job_id: str | None = None, progress: Any = None) -> int:
        floor = (await floors(self._core, self._core.db, patient=False)).lease
        free = await garbage.loose_blobs(self._core.db, "", floor, collector.BATCH)

        async def first(tx: Transaction) -> None:
            for digest in free:
                for (key,) in await tx.fetch("SELECT key FROM blobs WHERE digest = $1", digest):
                    await garbage.trash(tx, key, digest)

        async def second(tx: Transaction) -> int:
            await tx.execute(garbage.END_LEASES, "", garbage.END, floor)
            return sum([await tx.execute(f"{garbage.CONDEMNED} AND digest = $3", "", garbage.END, it) for it in free])

        await self._core.db.write(first)
        return await self._core.db.write(second)

    patch.setattr(Collector, "condemn", condemn)


def unlink_before_commit(patch: pytest.MonkeyPatch) -> None:
    """L6: the file of a blob that is to be condemned goes first."""
    condemn = Collector.condemn

    async def hasty(self: Collector, job_id: str | None = None, progress: Any = None) -> int:
        floor = (await floors(self._core, self._core.db, patient=False)).lease
        for digest in await garbage.loose_blobs(self._core.db, "", floor, collector.BATCH):
            for (key,) in await self._core.db.fetch("SELECT key FROM blobs WHERE digest = $1", digest):
                await self._core.blobs.remove([(key, Digest(digest))])
        return await condemn(self, job_id, progress)

    patch.setattr(Collector, "condemn", hasty)


def forget_before_unlink(patch: pytest.MonkeyPatch) -> None:
    """L6: the row in the trash goes before the file that it names."""

    async def reap(self: Collector, progress: Any = None) -> tuple[int, int]:
        found = await garbage.trashed(self._core.db, collector.BATCH, await self._hold_floor())

        async def body(tx: Transaction) -> None:
            await garbage.forget(tx, {key: 0 for key, _ in found})

        await self._core.db.write(body)
        freed = await self._core.blobs.remove([(key, collector._digest(digest)) for key, digest in found])
        await self._core.blobs.sync_removals()
        return len(freed), sum(freed)

    patch.setattr(Collector, "reap", reap)


def sweep_ignores_uploads(patch: pytest.MonkeyPatch) -> None:
    """L7: a file that is being written has a row, and the sweep does not look for it."""
    patch.setattr(
        garbage, "NAMED", "SELECT 1 FROM blobs WHERE key = $1 UNION ALL SELECT 1 FROM trash WHERE key = $1 LIMIT 1"
    )


def commit_before_publish(patch: pytest.MonkeyPatch) -> None:
    """L9: the row first, and then the file that it names."""
    commit = Uploads._commit
    waiting: dict[str, Staged] = {}

    async def later(self: Uploads, upload_id: str, staged: Staged, digest: Digest) -> None:
        waiting[upload_id] = staged

    async def commit_and_publish(
        self: Uploads, target: Target, caller: Caller, upload_id: str, key: str, digest: Digest, size: int
    ) -> Usage:
        usage = await commit(self, target, caller, upload_id, key, digest, size)
        await waiting.pop(upload_id).publish(digest)
        return usage

    patch.setattr(Uploads, "_publish", later)
    patch.setattr(Uploads, "_commit", commit_and_publish)


def head_takes_no_lease(patch: pytest.MonkeyPatch) -> None:
    """L10: "it exists", and nothing is written down."""

    async def promise(core: Core, target: Target, caller: Caller, digest: Digest) -> bool:
        return await blobs.linked(core.db, target, digest) is not None

    patch.setattr(leasing, "promise_blob", promise)


def head_of_a_manifest_takes_no_lease(patch: pytest.MonkeyPatch) -> None:
    """L10."""

    async def promise(core: Core, target: Target, caller: Caller, digest: str) -> bool:
        return await manifest_rows.by_digest(core.db, target, digest) is not None

    patch.setattr(leasing, "promise_manifest", promise)


def mount_and_finalise_take_no_lease(patch: pytest.MonkeyPatch) -> None:
    """L10."""

    async def nothing(*_: Any) -> None:
        return None

    patch.setattr(leasing, "hold_blob", nothing)


def one_session_spends_for_all(patch: pytest.MonkeyPatch) -> None:
    """L4: a PUT spends every session's leases."""

    async def spend(tx: Transaction, repository_id: int, session: str, digest: str) -> None:
        await tx.execute("DELETE FROM blob_leases WHERE repository_id = $1 AND digest = $2", repository_id, digest)

    patch.setattr(leases, "spend_blob", spend)


def a_duplicate_of_a_withdrawn_blob(patch: pytest.MonkeyPatch) -> None:
    """L17: finalise takes a blob that a scrub withdrew for one that is there."""

    async def nothing(*_: Any) -> None:
        return None

    patch.setattr(quarantine, "heal", nothing)


def _setting(patch: pytest.MonkeyPatch, pragma: str) -> None:
    configure = sqlite._configure

    def configure_otherwise(connection: sqlite3.Connection) -> None:
        configure(connection)
        connection.execute(f"PRAGMA {pragma}")

    patch.setattr(sqlite, "_configure", configure_otherwise)


def synchronous_normal(patch: pytest.MonkeyPatch) -> None:
    """L12: a COMMIT is answered before it is synced."""
    _setting(patch, "synchronous = NORMAL")


def no_foreign_keys(patch: pytest.MonkeyPatch) -> None:
    """L4: the database takes an edge to nothing."""
    _setting(patch, "foreign_keys = OFF")


def condemn_whatever(patch: pytest.MonkeyPatch) -> None:
    """L5: nobody asks who holds the blob."""
    patch.setattr(garbage, "LOOSE", "SELECT digest FROM blobs WHERE digest > $1 AND $2 = $2 ORDER BY digest LIMIT $3")
    behind = "digest > $1 AND digest <= $2"
    trash = "INSERT INTO trash (key, digest, size, job_id) SELECT key, digest, size, $3 FROM blobs"
    patch.setattr(garbage, "CONDEMN", f"{trash} WHERE {behind} ON CONFLICT (key) DO NOTHING")
    patch.setattr(garbage, "CONDEMNED", f"DELETE FROM blobs WHERE {behind}")
