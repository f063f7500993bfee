"""Upload sessions: bytes arrive under a fresh key, and become a blob only after they are verified and durable.

The staged file's size is the offset; there is no second record of it that could disagree. One writer at a time holds
the file. The order of effects, which is the design (docs/gc-proof.md):

    register the key -> write -> verify -> fsync, rename, fsync directory -> COMMIT -> answer
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from regserver.content import leasing, quarantine, quota
from regserver.content.core import Batch, Body, Core, Usage
from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Caller, Target
from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.storage.blobs.port import Staged, StagingBusy, StagingGone, StoreFailed, Waiting
from regserver.storage.catalog import blobs, clock, garbage, repositories, uploads
from regserver.storage.sql.port import DatabaseFailed, Transaction


@dataclass(frozen=True, slots=True)
class StartedUpload:
    id: str
    usage: Usage


def _unknown(upload_id: str) -> RegistryError:
    return RegistryError(ErrorCode.BLOB_UPLOAD_UNKNOWN, {"upload": upload_id})


def _out_of_order(target: Target, upload_id: str, size: int) -> RegistryError:
    # end-5: 416 tells the client where the session stands.
    headers = {"Range": f"0-{max(size - 1, 0)}", "Location": f"/v2/{target.name}/blobs/uploads/{upload_id}"}
    return RegistryError(ErrorCode.RANGE_INVALID, {"offset": size}, headers=headers)


def _expected(batch: Batch) -> int:
    """How many bytes it will certainly be, if the sender does as it said."""
    if isinstance(batch, Waiting):
        return batch.count if batch.framing is None else 0
    return sum(map(len, batch))


class Uploads:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(
        self, target: Target, caller: Caller, algorithm: Algorithm, *, whole: bool = False
    ) -> StartedUpload:
        """Opens a session for this repository and subject (end-4a). ``algorithm`` is what to hash with on the way.

        Raises RegistryError DENIED when the registry is full already, but for a ``whole`` blob, whose bytes will tell
        whether it is here; NAME_UNKNOWN when the registry has gone; StoreFailed.
        """
        upload_id, key = new_secret(), new_secret()

        async def body(tx: Transaction) -> Usage:
            usage = await self._core.usage(tx, target.registry_id)
            if usage.room == 0 and not whole:
                raise self._core.quota_exceeded(target.registry_id, usage, 1)
            repository_id = await repositories.ensure(tx, target)
            now = await clock.epoch(tx)
            await uploads.insert(tx, upload_id, key, repository_id, caller.account.subject, algorithm, now)
            return usage

        usage = await self._core.db.write(body)  # the key has a row before the file has a name (L1)
        try:
            await self._core.blobs.begin(key, algorithm)
        except StoreFailed:
            await self._discard(upload_id, key, None)
            raise
        return StartedUpload(upload_id, usage)

    async def status(self, target: Target, caller: Caller, upload_id: str) -> int:
        """Bytes received so far (end-13). Raises RegistryError BLOB_UPLOAD_UNKNOWN."""
        row = await self._row(target, caller, upload_id)
        try:
            return await self._core.blobs.staged_size(row.key)
        except StagingGone:
            raise _unknown(upload_id) from None

    async def append(
        self, target: Target, caller: Caller, upload_id: str, body: Body, start: int | None, length: int | None
    ) -> int:
        """Writes a chunk at the session's offset (end-5) and returns the new offset.

        ``start`` and ``length`` are what Content-Range claims, in bytes. Raises RegistryError RANGE_INVALID when the
        chunk does not begin at the offset or another request is writing, SIZE_INVALID when it is not as long as
        claimed, DENIED when it passes the quota, BLOB_UPLOAD_UNKNOWN; StoreFailed. What was written before stays.
        """
        async with self._staged(target, caller, upload_id) as (row, staged):
            await self._receive(target, caller, upload_id, staged, body, start, length)
            await quota.refuse_new(self._core, target, staged.size, partial(staged.digest, row.algorithm))
            return staged.size

    async def finish(
        self,
        target: Target,
        caller: Caller,
        upload_id: str,
        digest: Digest,
        body: Body | None,
        start: int | None = None,
        length: int | None = None,
    ) -> Usage:
        """Closes the session: its bytes, the last chunk included, become the blob ``digest`` of the repository (end-6).

        When it returns the blob is durable and leased to the caller. Raises RegistryError DIGEST_INVALID (the session
        and its bytes are gone), BLOB_UPLOAD_UNKNOWN, and what ``append`` raises; StoreFailed, DatabaseFailed (the
        session is gone too, as far as the catalog takes that).
        """
        try:
            return await self._finish(target, caller, upload_id, digest, body, start, length)
        except DatabaseFailed:  # the file may have the blob's name by now, and the session none to go on with
            await self._forget(target, caller, upload_id, digest)
            raise

    async def _finish(
        self,
        target: Target,
        caller: Caller,
        upload_id: str,
        digest: Digest,
        body: Body | None,
        start: int | None,
        length: int | None,
    ) -> Usage:
        async with self._staged(target, caller, upload_id) as (row, staged):
            if body is not None:
                await self._receive(target, caller, upload_id, staged, body, start, length)
            if await staged.digest(digest.algorithm) != digest:
                await self._discard(upload_id, row.key, None)
                raise RegistryError(ErrorCode.DIGEST_INVALID, {"digest": str(digest)})
            try:
                await quota.refuse_new(self._core, target, staged.size, partial(staged.digest, digest.algorithm))
            except RegistryError:
                await self._discard(upload_id, row.key, None)
                raise
            size = staged.size
            await self._publish(upload_id, staged, digest)
            return await self._commit(target, caller, upload_id, row.key, digest, size)

    async def put(self, target: Target, caller: Caller, digest: Digest, body: Body, length: int | None = None) -> Usage:
        """The whole blob in one request (end-4b). Whatever fails, nothing is left. Raises what the steps raise."""
        started = await self.start(target, caller, digest.algorithm, whole=True)
        try:
            return await self._finish(target, caller, started.id, digest, body, 0, length)
        except BaseException:
            await self._forget(target, caller, started.id, digest)
            raise

    async def cancel(self, target: Target, caller: Caller, upload_id: str) -> None:
        """Ends the session and its bytes (end-14). Raises RegistryError BLOB_UPLOAD_UNKNOWN."""
        row = await self._row(target, caller, upload_id)
        if not await self._discard(upload_id, row.key, None):
            raise _unknown(upload_id)

    # -- steps

    async def _row(self, target: Target, caller: Caller, upload_id: str) -> uploads.UploadRow:
        row = await uploads.find(self._core.db, upload_id, target, caller.account.subject)
        if row is None:
            raise _unknown(upload_id)
        return row

    @asynccontextmanager
    async def _staged(
        self, target: Target, caller: Caller, upload_id: str
    ) -> AsyncIterator[tuple[uploads.UploadRow, Staged]]:
        """The session's file for its one writer; a second one is told where the session stands."""
        row = await self._row(target, caller, upload_id)
        await self._touch(upload_id, row)
        try:
            staged = await self._core.blobs.resume(row.key, row.algorithm)
        except StagingGone:
            raise _unknown(upload_id) from None
        except StagingBusy:
            raise _out_of_order(target, upload_id, await self.status(target, caller, upload_id)) from None
        try:
            yield row, staged
        except StoreFailed as failed:
            self._report(failed)
            raise
        finally:
            await staged.close()

    async def _touch(self, upload_id: str, row: uploads.UploadRow) -> None:
        """Puts off the expiry of a session that is continued; seldom, because it costs a commit."""
        now = await clock.epoch(self._core.db)
        if now - row.epoch <= self._core.epochs(self._core.settings.upload_ttl_seconds) // 8:
            return

        async def body(tx: Transaction) -> None:
            await uploads.touch(tx, upload_id, now)

        await self._core.db.write(body)

    async def _receive(
        self,
        target: Target,
        caller: Caller,
        upload_id: str,
        staged: Staged,
        body: Body,
        start: int | None,
        length: int | None,
    ) -> None:
        if start is not None and start != staged.size:
            raise _out_of_order(target, upload_id, staged.size)
        received = 0
        async with aclosing(body):
            async for batch in body:
                came = _expected(batch)
                if length is not None and received + came > length:
                    raise RegistryError(ErrorCode.SIZE_INVALID, {"claimed": length, "received": received + came})
                await self._refuse_too_large(target, staged.size + came)
                if isinstance(batch, Waiting):
                    await staged.receive(batch)
                    came = batch.taken
                    await self._refuse_too_large(target, staged.size)
                else:
                    await staged.write(batch)
                received += came
                self._core.notes.received(upload_id, target, caller, staged.size)
        if length is not None and received != length:
            raise RegistryError(ErrorCode.SIZE_INVALID, {"claimed": length, "received": received})

    async def _refuse_too_large(self, target: Target, size: int) -> None:
        await quota.refuse_on_the_way(self._core, target, size)
        limit = self._core.settings.max_upload_bytes
        if limit is not None and size > limit:
            raise RegistryError(ErrorCode.BODY_TOO_LARGE, {"limit": limit})

    async def _publish(self, upload_id: str, staged: Staged, digest: Digest) -> None:
        try:
            await staged.publish(digest)  # bytes and name are durable before any row says so
        except StagingGone:
            raise _unknown(upload_id) from None

    async def _commit(
        self, target: Target, caller: Caller, upload_id: str, key: str, digest: Digest, size: int
    ) -> Usage:
        async def body(tx: Transaction) -> Usage | None:
            if not await uploads.take(tx, upload_id, key):  # L2: expired, cancelled or finished by a twin
                await uploads.trash_nameless(tx, key, digest)
                return None
            before = await self._core.hold_usage(tx, target.registry_id)
            repository_id = await repositories.ensure(tx, target)
            if not await blobs.insert(tx, digest, size, key):
                rotten = await quarantine.heal(tx, caller, repository_id, digest, key)
                await garbage.trash(tx, rotten or key, str(digest))  # L3: the digest has its file; the other is to go
            await blobs.link(tx, repository_id, target.registry_id, str(digest), size)
            await leasing.hold_blob(self._core, tx, repository_id, caller, digest)
            return await self._core.settle(tx, target.registry_id, before)

        try:
            usage = await self._core.db.write(body)
        except RegistryError:
            await self._discard(upload_id, key, digest)
            raise
        self._core.notes.ended(upload_id, complete=usage is not None)
        if usage is None:
            raise _unknown(upload_id)
        return usage

    async def _discard(self, upload_id: str, key: str, digest: Digest | None) -> bool:
        """Ends a session in one transaction: its key goes from ``uploads`` to ``trash``, safe under a live request."""

        async def body(tx: Transaction) -> bool:
            taken = await uploads.take(tx, upload_id, key)
            if taken:
                await garbage.trash(tx, key, str(digest) if digest else None)
            return taken

        self._core.notes.ended(upload_id, complete=False)
        return await self._core.db.write(body)

    async def _forget(self, target: Target, caller: Caller, upload_id: str, digest: Digest) -> None:
        """After a failure. Where the catalog does not even take this, the session ends by its age."""
        with suppress(DatabaseFailed):
            row = await uploads.find(self._core.db, upload_id, target, caller.account.subject)
            if row is not None:
                await self._discard(upload_id, row.key, digest)

    def _report(self, failed: StoreFailed) -> None:
        if failed.fatal:
            self._core.health.fail("a sync to disk failed; check the disk, then restart")
