"""The machine of test_store_machine.py, whose process is killed between any two effects of whatever it does.

Everything that runs then is abandoned, and the same folder is opened again; that may be cut short too. What was
answered is there. What was not has happened as a whole or not at all, and the client may ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Caller
from regserver.model.digest import Algorithm, Digest
from regserver.model.names import Tag
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from regserver.storage.blobs.port import BlobStore
from regserver.storage.sql.migrate import Migratable
from regserver.storage.sql.sqlite import SQLiteDatabase
from stateful.test_store_machine import (
    BLOBS_OF,
    IMAGES,
    INDEXES,
    LAYERS,
    LEASE_EPOCHS,
    TAGS,
    How,
    StoreMachine,
    images,
    repositories,
)
from support.databases import emptied_postgres
from support.effects import Crash, Effects, EffectsBlobStore, EffectsDatabase
from support.store import body, pusher, target
from support.wholeness import assert_settled, assert_whole

Tags = dict[tuple[str, str], bytes]
Blow = tuple[int, bool]  # at which effect, counted from 1; whether after it rather than before


class Doing(Enum):
    """What is cut short, and how many effects it has at most."""

    BEGIN = ("begin", 15)  # a COMMIT, begin, append, publish, a COMMIT for each blob
    FINISH = ("finish", 1)
    PUSH_INDEX = ("push index", 30)
    UNTAG = ("untag", 1)
    DELETE_MANIFEST = ("delete manifest", 1)
    DELETE_BLOB = ("delete blob", 1)
    COLLECT = ("collect", 12)
    EXPIRE_UPLOADS = ("expire uploads", 3)


Cut = tuple[Doing, Blow]


def blows(longest: int) -> st.SearchStrategy[Blow]:
    return st.tuples(st.integers(1, longest), st.booleans())


def cuts(*doings: Doing) -> st.SearchStrategy[Cut]:
    return st.sampled_from(doings).flatmap(lambda doing: st.tuples(st.just(doing), blows(doing.value[1])))


recoveries = st.lists(blows(4), max_size=2)


class CrashingMachine(StoreMachine):
    @initialize()
    def start(self) -> None:
        self.open_database = self._open_catalog
        super().start()

    async def _engine(self) -> Migratable:
        return await SQLiteDatabase.open(Path(self.folder.name) / "catalog.db")

    async def _open_catalog(self) -> Migratable:
        return EffectsDatabase(await self._engine(), self.effects)

    async def _open_blobs(self, root: Path) -> BlobStore:
        self.effects = Effects()  # of a new process; what is left of the one before stays dead
        return EffectsBlobStore(await FilesystemBlobStore.at(root), self.effects)

    # -- the end of a process, and the start of the next one

    def _recover(self, recoveries: list[Blow]) -> None:
        """Opens again and does what a start does in the background, as often as that is cut short."""
        for at, after in recoveries:
            self._reopen()
            self.effects.crash(at, after=after)
            try:
                self.run(self._clean_up())
            except Crash:
                continue
            self.effects.let_pass()
        self._reopen()
        self.run(assert_whole(self.store))
        self.run(self._clean_up())
        self.run(assert_settled(self.store))

    def _reopen(self) -> None:
        self.strays += self.effects.stranded
        self.restart()

    async def _clean_up(self) -> None:
        await self.store.collector.reap()
        found = await self.store.collector.sweep()
        assert found <= self.strays, "I5: a file has lost its name"
        self.strays -= found

    async def _stored_tags(self) -> Tags:
        found: Tags = {}
        for repository in {repository for repository, _ in self.model.tags} | {self.touched}:
            for tag in TAGS:
                reader = pusher("reader", shared=True)
                try:
                    _, content = await self.store.manifests.get(target(repository), reader, Tag(tag))
                except RegistryError as refused:
                    assert refused.code is ErrorCode.MANIFEST_UNKNOWN
                else:
                    found[repository, tag] = content
        return found

    # -- what is cut short

    @rule(
        cut=cuts(Doing.BEGIN, Doing.FINISH, Doing.PUSH_INDEX),
        recoveries=recoveries,
        repository=repositories,
        content=images,
        how=st.sampled_from(How),
    )
    def kill_a_push(self, cut: Cut, recoveries: list[Blow], repository: str, content: bytes, how: How) -> None:
        if cut[0] is Doing.FINISH and not self.pushes:
            self.begin(repository, content, how)
        if cut[0] is not Doing.BEGIN or len(self.pushes) < 2:
            self._kill(cut, recoveries, repository, content, how)

    @rule(
        cut=cuts(Doing.UNTAG, Doing.DELETE_MANIFEST, Doing.DELETE_BLOB),
        recoveries=recoveries,
        repository=repositories,
        content=images,
    )
    def kill_a_deletion(self, cut: Cut, recoveries: list[Blow], repository: str, content: bytes) -> None:
        self._kill(cut, recoveries, repository, content)

    @rule(
        cut=cuts(Doing.COLLECT, Doing.EXPIRE_UPLOADS),
        recoveries=recoveries,
        repository=repositories,
        everything=st.booleans(),
    )
    def kill_a_collection(self, cut: Cut, recoveries: list[Blow], repository: str, everything: bool) -> None:
        if everything:  # so that there is something to collect
            for tag in TAGS:
                self.untag(repository, tag)
            self.pass_epochs(LEASE_EPOCHS + 1)
        self._kill(cut, recoveries, repository)

    def _kill(
        self,
        cut: Cut,
        recoveries: list[Blow],
        repository: str,
        content: bytes = IMAGES[0],
        how: How = How.PUSH,
        tag: str = TAGS[0],
    ) -> None:
        doing, (at, after) = cut
        pushes = list(self.pushes)
        self.touched = pushes[0].repository if doing is Doing.FINISH else repository
        self.effects.crash(at, after=after)
        try:
            self._do(doing, repository, tag, content, how)
        except Crash:
            pass
        else:
            self.effects.let_pass()
            return
        self._recover(recoveries)
        done = self._done(doing, repository, tag, content, pushes[0].content if pushes else b"")
        stored = self.run(self._stored_tags())
        assert stored in (self.model.tags, done), "I2: an answer was taken back, or half of a request took place"
        if doing is Doing.FINISH and stored != done:
            self.pushes = pushes  # nobody was told: the client asks again, and what it was promised still counts
        elif doing is Doing.BEGIN:
            self.pushes = pushes
            self.begin(repository, content, how)  # as a client does that got no answer
        self.model.tags = stored

    def _do(self, doing: Doing, repository: str, tag: str, content: bytes, how: How) -> None:
        steps: dict[Doing, Callable[[], None]] = {
            Doing.BEGIN: lambda: self.begin(repository, content, how),
            Doing.FINISH: lambda: self.finish(tag),
            Doing.PUSH_INDEX: lambda: self.push_index(repository, tag, INDEXES[0], how),
            Doing.UNTAG: lambda: self.untag(repository, tag),
            Doing.DELETE_MANIFEST: lambda: self.delete_manifest(repository, content),
            Doing.DELETE_BLOB: lambda: self.delete_blob(repository, BLOBS_OF[content][0]),
            Doing.COLLECT: lambda: self.collect(f"reg_{target(repository).name.registry}"),
            Doing.EXPIRE_UPLOADS: self.expire_uploads,
        }
        steps[doing]()

    def _done(self, doing: Doing, repository: str, tag: str, content: bytes, pushed: bytes) -> Tags:
        """The tags if the step took place that was not answered."""
        tags = dict(self.model.tags)
        match doing:
            case Doing.FINISH:
                tags[self.touched, tag] = pushed
            case Doing.PUSH_INDEX:
                tags[repository, tag] = INDEXES[0]
            case Doing.UNTAG:
                tags.pop((repository, tag), None)
            case Doing.DELETE_MANIFEST:
                tags = {key: value for key, value in tags.items() if key[0] != repository or value != content}
        return tags

    @rule(repository=repositories, known=st.sampled_from((None, *LAYERS)), blow=blows(6), recoveries=recoveries)
    def kill_an_upload_and_go_on(
        self, repository: str, known: bytes | None, blow: Blow, recoveries: list[Blow]
    ) -> None:
        """What was acknowledged of an upload is there after the kill, and its client goes on behind it."""
        session, name = self.session(), target(repository)
        content = known or f"a layer of {session}".encode()
        who, digest = pusher(session), Digest.of(content)
        upload, answered = "", []  # offsets
        self.effects.crash(blow[0], after=blow[1])
        try:
            upload = self.run(self.store.uploads.start(name, who, Algorithm.SHA256)).id
            answered.append(0)
            for part in (content[:5], content[5:]):
                append = self.store.uploads.append(name, who, upload, body(part), answered[-1], None)
                answered.append(self.run(append))
            self.run(self.store.uploads.finish(name, who, upload, digest, None))
        except Crash:
            self._recover(recoveries)
            if not answered or not self._go_on(repository, who, upload, content, answered):
                self.run(self.store.push_blob(name, content, who))
        else:
            self.effects.let_pass()
        assert self.run(self.store.blobs.stat(name, who, digest)) == len(content)

    def _go_on(self, repository: str, who: Caller, upload: str, content: bytes, answered: list[int]) -> bool:
        """False where the session has gone: its end had begun, and the client pushes anew."""
        name, then = target(repository), {0: 5, 5: len(content), len(content): len(content)}
        try:
            offset = self.run(self.store.uploads.status(name, who, upload))
        except RegistryError as refused:
            assert refused.code is ErrorCode.BLOB_UPLOAD_UNKNOWN
            assert answered[-1] == len(content), "an upload has gone that was to go on"
            return False
        assert offset in (answered[-1], then[answered[-1]]), "the offset is not what was received"
        rest = body(content[offset:])
        self.run(self.store.uploads.finish(name, who, upload, Digest.of(content), rest, offset))
        return True

    @invariant()
    def every_row_has_its_file_and_every_edge_its_end(self) -> None:
        self.run(assert_whole(self.store))


class CrashingPostgresMachine(CrashingMachine):
    @initialize()
    def start(self) -> None:
        self.postgres = emptied_postgres(Path())
        super().start()

    async def _engine(self) -> Migratable:
        return await self.postgres.open()


TestCrashingMachine = CrashingMachine.TestCase
TestCrashingMachine.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCrashingPostgresMachine = CrashingPostgresMachine.TestCase
TestCrashingPostgresMachine.settings = settings(
    max_examples=5, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
