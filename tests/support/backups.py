"""Backups in tests: taken of a store, restored, and checked without any code of the registry."""

import hashlib
import json
from pathlib import Path

from regserver.content.backup import BackedUp, Backup
from regserver.storage.blobs.filesystem import FilesystemBlobStore
from support.invariants import opened
from support.store import Store

CATALOG = "catalog.sqlite3"


def silent(_: str, __: int, ___: int) -> None:
    return


async def back_up(store: Store, file: Path, since: Path | None = None) -> BackedUp:
    """Of a store that ``opened_store`` has opened with files."""
    return await Backup(store.core, store.core.settings.root / "catalog.db", silent).write(file, since)


class Meddling(FilesystemBlobStore):
    """Lets somebody do something between the copy of the catalog and the reading of the first blob."""

    meddle = None

    async def open(self, key, digest):
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            await meddle()
        return await super().open(key, digest)


def checked(root: Path) -> set[str]:
    """The digests of a restored root's blobs. AssertionError unless every row has its file, every file its row, and
    every blob and manifest the bytes that its digest says."""
    rows = query(root, "SELECT digest, size, key FROM blobs")
    files = {path.name: path for path in (root / "blobs").rglob("*") if path.is_file()}
    assert {f"{digest.partition(':')[2]}.{key}" for digest, _, key in rows} == set(files)
    for digest, size, key in rows:
        algorithm, _, hexadecimal = digest.partition(":")
        content = files[f"{hexadecimal}.{key}"].read_bytes()
        assert (len(content), hashlib.new(algorithm, content).hexdigest()) == (size, hexadecimal), digest
    for digest, content in query(root, "SELECT digest, content FROM manifests"):
        algorithm, _, hexadecimal = digest.partition(":")
        assert hashlib.new(algorithm, content).hexdigest() == hexadecimal, digest
    return {digest for digest, _, _ in rows}


def tags(root: Path) -> dict[str, str]:
    return dict(query(root, "SELECT name, digest FROM tags"))


def reached(root: Path, digest: str) -> set[str]:
    """The blobs that a stored image lists."""
    ((content,),) = query(root, f"SELECT content FROM manifests WHERE digest = '{digest}'")
    document = json.loads(content)
    return {descriptor["digest"] for descriptor in (document["config"], *document["layers"])}


def query(root: Path, sql: str) -> list[tuple]:
    """What a process would find that starts now: with the log of one that was killed."""
    with opened(root) as catalog:
        return catalog.execute(sql).fetchall()
