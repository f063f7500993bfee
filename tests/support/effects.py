"""Both ports with something between every two effects: another client's step, or the end of the process.

An effect is what outlives a process: a COMMIT, or a file that is made, written, published, moved or unlinked. Nothing
else does, so between two of them is everywhere that a crash or another process can make a difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.port import BlobStore, LocalFile, Pace, Rehashed, Staged, StoredFile, Waiting
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.port import Reader, Row, Transaction
from support.databases import Wrapped

T = TypeVar("T")


class Crash(BaseException):
    """The process has ended. Nothing in the code catches it but to let go of what it holds."""


class Effects:
    """Counts the effects of one process. At the chosen one it may end, or let somebody else in first."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._dead = False
        self.let_pass()

    def let_pass(self) -> None:
        """Counts anew, and does nothing else."""
        self.seen.clear()
        self._at, self._after = 0, False
        self._step: Callable[[], Awaitable[Any]] | None = None

    def crash(self, at: int, *, after: bool) -> None:
        """The process ends at its effect number ``at``, from 1: before it, or ``after`` it and before it is told."""
        self.let_pass()
        self._at, self._after = at, after

    def interrupt(self, at: int, step: Callable[[], Awaitable[Any]]) -> None:
        """Runs the step, whose own effects do not count, before effect number ``at``."""
        self.let_pass()
        self._at, self._step = at, step

    @property
    def stranded(self) -> bool:
        """Whether the process ended between publishing a file and its COMMIT. Once that upload has expired, only the
        sweep knows the file: nobody has written down by which digest it was published."""
        done = self.seen if self._after else self.seen[:-1]
        return self._dead and done[-1:] == ["publish"]

    def check(self) -> None:
        """Raises Crash once the process has ended: what is still on its way reads and changes nothing any more."""
        if self._dead:
            raise Crash

    async def pass_through(self, name: str, effect: Callable[[], Awaitable[T]]) -> T:
        self.check()
        self.seen.append(name)
        chosen = len(self.seen) == self._at
        if chosen and self._step is not None:
            step, self._at = self._step, 0
            seen = list(self.seen)
            await step()
            self.seen[:] = seen
        elif chosen and not self._after:
            self._end()
        result = await effect()
        if chosen and self._after:
            self._end()
        return result

    def _end(self) -> None:
        self._dead = True
        raise Crash


class EffectsDatabase(Wrapped):
    """An effect is a transaction that writes: the engine sees to it that there is nothing between its statements."""

    def __init__(self, database: Migratable, effects: Effects) -> None:
        super().__init__(database)
        self._effects = effects

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        self._effects.check()
        return await self._database.fetch(sql, *args)

    async def read(self, body: Callable[[Reader], Awaitable[T]]) -> T:
        self._effects.check()
        return await self._database.read(body)

    async def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._effects.pass_through("write", lambda: self._database.write(body))


class EffectsStaged:
    def __init__(self, staged: Staged, effects: Effects) -> None:
        self._staged = staged
        self._effects = effects

    @property
    def size(self) -> int:
        return self._staged.size

    async def write(self, parts: Sequence[bytes]) -> None:
        await self._effects.pass_through("append", lambda: self._staged.write(parts))

    async def receive(self, waiting: Waiting) -> None:
        await self._effects.pass_through("receive", lambda: self._staged.receive(waiting))

    async def digest(self, algorithm: Algorithm) -> Digest:
        self._effects.check()
        return await self._staged.digest(algorithm)

    async def publish(self, digest: Digest) -> None:
        await self._effects.pass_through("publish", lambda: self._staged.publish(digest))

    async def close(self) -> None:
        await self._staged.close()  # the kernel does it for a process that has ended


class EffectsBlobStore:
    """Implements ``BlobStore`` over another one."""

    def __init__(self, blobs: BlobStore, effects: Effects) -> None:
        self._blobs = blobs
        self._effects = effects

    async def begin(self, key: str, algorithm: Algorithm) -> None:
        await self._effects.pass_through("begin", lambda: self._blobs.begin(key, algorithm))

    async def resume(self, key: str, algorithm: Algorithm) -> Staged:
        self._effects.check()
        return EffectsStaged(await self._blobs.resume(key, algorithm), self._effects)

    async def staged_size(self, key: str) -> int:
        self._effects.check()
        return await self._blobs.staged_size(key)

    async def open(self, key: str, digest: Digest) -> LocalFile | None:
        self._effects.check()
        return await self._blobs.open(key, digest)

    async def rehash(self, key: str, digest: Digest, pace: Pace) -> Rehashed | None:
        self._effects.check()
        return await self._blobs.rehash(key, digest, pace)

    async def quarantine(self, key: str, digest: Digest) -> bool:
        return await self._effects.pass_through("quarantine", lambda: self._blobs.quarantine(key, digest))

    async def remove(self, files: Sequence[tuple[str, Digest | None]]) -> list[int]:
        return [await self._remove(*file) for file in files]  # each file that goes is an effect of its own

    async def _remove(self, key: str, digest: Digest | None) -> int:
        (size,) = await self._effects.pass_through("remove", lambda: self._blobs.remove([(key, digest)]))
        return size

    async def sync_removals(self) -> None:
        await self._effects.pass_through("sync_removals", self._blobs.sync_removals)

    async def scan(self) -> AsyncIterator[Sequence[StoredFile]]:
        async for batch in self._blobs.scan():
            self._effects.check()
            yield batch

    async def free_bytes(self) -> int:
        return await self._blobs.free_bytes()

    async def probe(self) -> None:
        await self._effects.pass_through("probe", self._blobs.probe)

    async def close(self) -> None:
        await self._blobs.close()
