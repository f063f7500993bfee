"""The store as a whole against a dict: whatever is pushed, mounted, deleted, collected and restarted in whatever order.

The model knows what a client was told. The store may keep more than the model (a lease, a window), never less; once
every lease has ended, one collection leaves exactly what tags reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from regserver.content.collector import Collector
from regserver.content.explain import Explain
from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Algorithm, Digest
from regserver.model.names import Tag
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import BlobStore
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.databases import Repeating, emptied_postgres
from support.store import Store, body, image, index, opened_store, pusher, target

T = TypeVar("T")
Key = tuple[str, Digest]  # (repository, manifest)

# Few of everything, so that steps meet: most faults need a push, a deletion and a collection of the same thing.
REPOSITORIES = ("my/api", "my/web", "other/api")
TAGS = ("v1",)
LAYERS = (b"one layer", b"another layer")
IMAGES = (image(LAYERS[0]), image(*LAYERS))
BLOBS_OF = {IMAGES[0]: LAYERS[:1], IMAGES[1]: LAYERS}
INDEXES = (index(*IMAGES),)
CHILDREN_OF = {INDEXES[0]: IMAGES}
LEASE_EPOCHS = 3

repositories, tags, images = st.sampled_from(REPOSITORIES), st.sampled_from(TAGS), st.sampled_from(IMAGES)


class How(Enum):
    """How a client sees to it that a blob is there."""

    PUSH = "push"
    ASK = "ask"
    MOUNT = "mount"


class Meanwhile(Enum):
    """What others do to a repository while a push is in flight."""

    CLEAR = "clear"
    DELETE_MANIFEST = "delete manifest"
    DELETE_BLOB = "delete blob"
    RESTART = "restart"


@dataclass
class Push:
    """A push whose blobs are all there or answered for, and whose manifest is still to come."""

    repository: str
    content: bytes
    session: str
    expires: int


@dataclass
class Model:
    tags: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[Key, bytes] = field(default_factory=dict)  # those that must be there: reachable from a tag

    def reachable(self) -> set[tuple[str, bytes]]:
        found = {(repository, content) for (repository, _), content in self.tags.items()}
        return found | {(repository, child) for repository, top in found for child in CHILDREN_OF.get(top, ())}

    def parents(self, repository: str, content: bytes) -> bool:
        return any(content in CHILDREN_OF.get(top, ()) for there, top in self.reachable() if there == repository)


class StoreMachine(RuleBasedStateMachine):
    open_database: Callable[[], Awaitable[Migratable]] | None = None

    @initialize()
    def start(self) -> None:
        # Power never fails here, so memory will do for a disk.
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.loop = asyncio.new_event_loop()
        self.model, self.sessions, self.epoch = Model(), 0, 0
        self.strays = 0  # files without a name that there may come to be; for machines that are killed
        self.pushes: list[Push] = []
        self.run(self._open())

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    async def _open(self) -> None:
        self.opened = AsyncExitStack()
        root = Path(self.folder.name)
        blobs = await self._open_blobs(root)
        self.opened.push_async_callback(blobs.close)
        lease_seconds = (LEASE_EPOCHS - 1) * 60
        ages: dict[str, Any] = {"lease_seconds": lease_seconds, "untagged_seconds": 0}
        now = self.epoch * 60_000
        store = opened_store(root, blobs, now=now, open_database=self.open_database, **ages)
        self.store: Store = await self.opened.enter_async_context(store)

    async def _open_blobs(self, root: Path) -> BlobStore:
        return await FilesystemBlobStore.at(root)

    def session(self) -> str:
        self.sessions += 1
        return f"session {self.sessions}"

    # -- pushing

    async def _blob(self, repository: str, content: bytes, session: str, how: How) -> None:
        """Brings it about that the blob is there and promised to the session."""
        who, digest = pusher(session), Digest.of(content)
        if how is How.ASK:
            with contextlib.suppress(RegistryError):
                await self.store.blobs.stat(target(repository), who, digest)
                return
        if how is How.MOUNT and await self._mount(repository, content, session):
            return
        await self.store.push_blob(target(repository), content, who)

    async def _mount(self, repository: str, content: bytes, session: str) -> bool:
        """From the first other repository; I4: it needs that one's link, and nothing else will do."""
        source, digest = next(name for name in REPOSITORIES if name != repository), Digest.of(content)
        try:
            os.close((await self.store.blobs.open(target(source), digest)).fd)
            linked = True
        except RegistryError:
            linked = False
        mounted = await self.store.blobs.mount(target(repository), pusher(session), digest, target(source))
        assert (mounted is not None) == linked, "I4"
        return linked

    # Few at a time: every push in flight holds what the next one could otherwise be found to miss.
    @precondition(lambda self: len(self.pushes) < 2)
    @rule(repository=repositories, content=images, how=st.sampled_from(How))
    def begin(self, repository: str, content: bytes, how: How) -> None:
        session = self.session()
        self.pushes.append(Push(repository, content, session, self.epoch + LEASE_EPOCHS))
        for blob in (b"{}", *BLOBS_OF[content]):
            self.run(self._blob(repository, blob, session, how))

    @precondition(lambda self: self.pushes)
    @rule(tag=tags)
    def finish(self, tag: str) -> None:
        push = self.pushes.pop(0)
        try:
            self.run(self.store.push(target(push.repository), push.content, tag, who=pusher(push.session)))
        except RegistryError as refused:
            assert refused.code is ErrorCode.MANIFEST_BLOB_UNKNOWN
            assert self.epoch > push.expires, "I3: refused while its leases live"
        else:
            self.model.tags[push.repository, tag] = push.content

    @precondition(lambda self: not self.pushes)
    @rule(
        repository=repositories,
        content=images,
        tag=tags,
        how=st.sampled_from(How),
        meanwhile=st.lists(st.sampled_from(Meanwhile), min_size=1, max_size=3),
    )
    def push_again_while(self, repository: str, content: bytes, tag: str, how: How, meanwhile: list[Meanwhile]) -> None:
        """What every lease is for: the image is there, and goes, between the answers and the manifest."""
        for before in (How.PUSH, how):
            self.begin(repository, content, before)
            if before is not How.PUSH:
                for step in meanwhile:
                    self._meanwhile(step, repository, content)
            self.finish(tag)

    def _meanwhile(self, step: Meanwhile, repository: str, content: bytes) -> None:
        match step:
            case Meanwhile.CLEAR:
                self.clear(repository)
            case Meanwhile.DELETE_MANIFEST:
                self.delete_manifest(repository, content)
            case Meanwhile.DELETE_BLOB:
                self.delete_blob(repository, BLOBS_OF[content][0])
            case Meanwhile.RESTART:
                self.restart()

    @rule(repository=repositories, tag=tags, top=st.sampled_from(INDEXES), how=st.sampled_from(How))
    def push_index(self, repository: str, tag: str, top: bytes, how: How) -> None:
        who = pusher(self.session())
        for child in CHILDREN_OF[top]:
            for blob in (b"{}", *BLOBS_OF[child]):
                self.run(self._blob(repository, blob, who.session, how))
            self.run(self.store.push(target(repository), child, who=who))
        self.run(self.store.push(target(repository), top, tag, who=who))
        self.model.tags[repository, tag] = top

    @rule(repository=repositories, content=st.sampled_from(LAYERS))
    def abandon_upload(self, repository: str, content: bytes) -> None:
        who = pusher(self.session())

        async def step() -> None:
            started = await self.store.uploads.start(target(repository), who, Algorithm.SHA256)
            await self.store.uploads.append(target(repository), who, started.id, body(content), None, None)

        self.run(step())

    # -- deleting

    @rule(repository=repositories, tag=tags)
    def untag(self, repository: str, tag: str) -> None:
        try:
            self.run(self.store.manifests.untag(target(repository), pusher("janitor"), Tag(tag)))
            known = True
        except RegistryError as refused:
            assert refused.code is ErrorCode.MANIFEST_UNKNOWN
            known = False
        assert known == ((repository, tag) in self.model.tags)
        self.model.tags.pop((repository, tag), None)

    @rule(repository=repositories, content=images | st.sampled_from(INDEXES))
    def delete_manifest(self, repository: str, content: bytes) -> None:
        held, reachable = self.model.parents(repository, content), (repository, content) in self.model.reachable()
        try:
            self.run(self.store.manifests.delete(target(repository), pusher("janitor"), Digest.of(content)))
        except RegistryError as refused:
            # An index that no tag reaches any more may still be there and hold its children.
            assert refused.code in (ErrorCode.REFERENCED, ErrorCode.MANIFEST_UNKNOWN)
            assert not reachable or refused.code is ErrorCode.REFERENCED
            return
        assert not held, "a tagged index lists it"
        for key, tagged in list(self.model.tags.items()):
            if key[0] == repository and tagged == content:
                del self.model.tags[key]

    @rule(repository=repositories, content=st.sampled_from(LAYERS))
    def delete_blob(self, repository: str, content: bytes) -> None:
        used = any(
            content in BLOBS_OF.get(manifest, ()) for there, manifest in self.model.reachable() if there == repository
        )
        try:
            self.run(self.store.blobs.delete(target(repository), pusher("janitor"), Digest.of(content)))
        except RegistryError as refused:
            assert refused.code in (ErrorCode.REFERENCED, ErrorCode.BLOB_UNKNOWN)
            assert not used or refused.code is ErrorCode.REFERENCED
        else:
            assert not used, "I1: a tagged manifest uses it"

    # -- time, collection, restarts

    @rule(repository=repositories)
    def clear(self, repository: str) -> None:
        """Deletes every tag of a repository and collects at once: what only a promise holds must stay."""
        for tag in TAGS:
            self.untag(repository, tag)
        self.collect(f"reg_{target(repository).name.registry}")

    @rule(name=st.sampled_from(["reg_my", "reg_other"]))
    def collect(self, name: str) -> None:
        self.run(self.store.collector.collect(name))

    @rule()
    def sweep(self) -> None:
        self.run(self._sweep())

    async def _sweep(self) -> None:
        found = await self.store.collector.sweep()
        assert found <= self.strays, "I5: every file has a name in a table"
        self.strays -= found

    @rule(count=st.integers(1, LEASE_EPOCHS + 1))
    def pass_epochs(self, count: int) -> None:
        self.epoch += count
        self.run(self.store.pass_epochs(count))

    @rule()
    def expire_uploads(self) -> None:
        self.run(self.store.housekeeping.expire_uploads())

    @rule()
    def restart(self) -> None:
        self.run(self.opened.aclose())
        self.run(self._open())

    # -- what always holds

    @invariant()
    def everything_tagged_pulls_bit_exact(self) -> None:
        self.run(self._pull_everything())

    async def _pull_everything(self) -> None:
        for (repository, tag), content in self.model.tags.items():
            _, pulled = await self.store.manifests.get(target(repository), pusher("reader", shared=True), Tag(tag))
            assert pulled == content, "I2"
        for repository, content in self.model.reachable():
            for blob in BLOBS_OF.get(content, ()):
                file = await self.store.blobs.open(target(repository), Digest.of(blob))
                try:
                    assert os.pread(file.fd, file.size + 1, 0) == blob, "I1"
                finally:
                    os.close(file.fd)

    @invariant()
    def counters_equal_their_sums(self) -> None:
        for name in ("reg_my", "reg_other"):
            assert self.run(self.store.counter_error(name)) == 0, "I6"

    @invariant()
    def an_image_is_reckoned_at_once_as_its_tags_are_one_by_one(self) -> None:
        for repository in REPOSITORIES:
            asked, explain = target(repository), Explain(self.store.core)
            assert self.run(explain.reclaimable(asked)) == self.run(explain.reclaimable(asked, list(TAGS)))

    def teardown(self) -> None:
        try:
            self.run(self._end())
        finally:
            self.run(self.opened.aclose())
            self.loop.close()
            self.folder.cleanup()

    async def _end(self) -> None:
        """I5: clients stop, leases and uploads run out, one collection: what tags reach remains, and nothing else."""
        await self.store.core.db.write(lambda tx: tx.execute("UPDATE clock SET epoch = epoch + 1000000"))
        await self.store.housekeeping.expire_uploads()
        for name in ("reg_my", "reg_other"):
            await Collector(self.store.core).collect(name)
        await self._sweep()
        rows = await self.store.core.db.fetch("SELECT digest FROM blobs")
        kept = {Digest.of(content) for _, content in self.model.reachable()}
        blobs = {
            Digest.of(blob)
            for _, content in self.model.reachable()
            if content in BLOBS_OF
            for blob in (b"{}", *BLOBS_OF[content])
        }
        assert {row[0] for row in rows} == {str(digest) for digest in blobs}
        assert {row[0] for row in await self.store.core.db.fetch("SELECT digest FROM manifests")} == set(map(str, kept))
        assert await self.store.files() == len(blobs)


class PostgresMachine(StoreMachine):
    """The same on the other engine, less often: every statement is a round trip."""

    @initialize()
    def start(self) -> None:
        self.open_database = emptied_postgres(Path()).open
        super().start()


class RepeatingMachine(StoreMachine):
    """Every transaction is run twice, the first time for nothing: whatever a body does beside its statements shows."""

    @initialize()
    def start(self) -> None:
        self.open_database = self._open_repeating
        super().start()

    async def _open_repeating(self) -> Migratable:
        return Repeating(await SQLiteDatabase.open(Path(self.folder.name) / "catalog.db"))


TestRepeatingMachine = RepeatingMachine.TestCase
TestRepeatingMachine.settings = settings(
    max_examples=10, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(
    max_examples=10, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
