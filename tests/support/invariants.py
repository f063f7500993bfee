"""I1 to I6 (docs/gc-proof.md) held against a root folder: the catalog as a later process would find it, and every file.

The catalog is copied with its log and the copy is opened, so looking neither recovers nor changes anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from regserver.storage.catalog import counts

SETTLE_SECONDS = 20.0
CATALOG = "catalog.sqlite3"
KNOWN = {CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", "blobs", "uploads", "quarantine", "keys", "admin-token"}
KNOWN |= {"installation", "keeper", "turn", "siblings", "manifests.jsonl.zst"}

Files = dict[str, Path]


def violations(root: Path, *, settled: bool) -> list[str]:
    """Every violation, in words. ``settled``: a server has started after the crash and has done what it does then.

    Before that, trash and files that no table names may be there: the next start takes them away.
    """
    files = stored(root)
    with opened(root) as catalog:
        if not _column(catalog, "SELECT name FROM sqlite_schema WHERE name = 'blobs'"):  # a first start, cut short
            return [f"I5: no table names {path}" for path in files.values()]
        found = [
            *_catalog(catalog),
            *_blobs(catalog, files),
            *_manifests(catalog),
            *_keys(catalog),
            *_usage(catalog),
            *_signing(catalog, root),
        ]
        if settled:
            found += _left_over(catalog, root, files)
    return found


def assert_whole(root: Path, *, settled: bool) -> None:
    found = violations(root, settled=settled)
    assert not found, "\n".join(found)


def wait_until_settled(root: Path) -> None:
    """Until what a start does in the background is done, jobs included; what is left then is a violation."""
    until = time.monotonic() + SETTLE_SECONDS
    while found := violations(root, settled=True):
        assert time.monotonic() < until, "\n".join(found)
        time.sleep(0.02)


@contextlib.contextmanager
def opened(root: Path) -> Iterator[sqlite3.Connection]:
    """The catalog as a process would find it that starts now, on a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CATALOG
        for suffix in ("", "-wal"):  # the index is made anew from the log, as after a crash
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(root / f"{CATALOG}{suffix}", f"{copy}{suffix}")
        with contextlib.closing(sqlite3.connect(copy)) as catalog:
            yield catalog


def stored(root: Path) -> Files:
    """The store's files by key."""
    found = [file for folder in ("blobs", "uploads") for file in (root / folder).rglob("*") if file.is_file()]
    return {file.name.rpartition(".")[2]: file for file in found}


def _column(catalog: sqlite3.Connection, sql: str) -> set[Any]:
    return {row[0] for row in catalog.execute(sql)}


def _catalog(catalog: sqlite3.Connection) -> Iterator[str]:
    for (line,) in catalog.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"catalog: {line}"
    for row in catalog.execute("PRAGMA foreign_key_check"):
        yield f"I1: a row of {row[0]} points at nothing in {row[2]}"


def _blobs(catalog: sqlite3.Connection, files: Files) -> Iterator[str]:
    """I1: every row's file is there, whole, under its own name."""
    for digest, size, key in catalog.execute("SELECT digest, size, key FROM blobs"):
        algorithm, _, name = digest.partition(":")
        path = files.get(key)
        if path is None:
            yield f"I1: {digest} has a row and no file {key}"
            continue
        content = path.read_bytes()
        if path.parts[-4:] != ("blobs", algorithm, name[:2], f"{name}.{key}"):
            yield f"I1: {digest} is at {path}"
        if (len(content), hashlib.new(algorithm, content).hexdigest()) != (size, name):
            yield f"I1: {path} does not hold the {size} bytes of {digest}"


def _manifests(catalog: sqlite3.Connection) -> Iterator[str]:
    """I1: what a manifest names is linked beside it with that size, or noted as missing; its bytes are its own."""
    edges = {kind: set(catalog.execute(sql)) for kind, sql in _EDGES.items()}
    sizes = dict(catalog.execute("SELECT digest, size FROM blobs"))
    links = set(catalog.execute("SELECT repository_id, digest FROM repository_blobs"))
    for place, digest, size, content in catalog.execute("SELECT repository_id, digest, size, content FROM manifests"):
        algorithm, _, name = digest.partition(":")
        if (len(content), hashlib.new(algorithm, content).hexdigest()) != (size, name):
            yield f"I1: the bytes of manifest {digest} are not its own"
        for wanted, length in _named(json.loads(content)):
            edge = (place, digest, wanted)
            if edge in edges["missing"] or edge in edges["children"]:
                continue
            if edge not in edges["blobs"]:
                yield f"I1: manifest {digest} names {wanted} without an edge to it"
            if (place, wanted) not in links or sizes.get(wanted) != length:
                yield f"I1: manifest {digest} names {wanted}, which is not here with {length} bytes"


_EDGES = {
    "blobs": "SELECT repository_id, manifest, digest FROM manifest_blobs",
    "children": "SELECT repository_id, parent, child FROM manifest_children",
    "missing": "SELECT repository_id, manifest, digest FROM missing_references",
}


def _named(document: dict[str, Any]) -> Iterator[tuple[str, int]]:
    named = [document[field] for field in ("config",) if field in document]
    for descriptor in (*named, *document.get("layers", []), *document.get("manifests", [])):
        yield descriptor["digest"], descriptor["size"]


def _keys(catalog: sqlite3.Connection) -> Iterator[str]:
    """L3: a key is in one table."""
    seen: set[str] = set()
    for table in ("uploads", "blobs", "trash"):
        keys = _column(catalog, f"SELECT key FROM {table}")
        for key in keys & seen:
            yield f"L3: key {key} is in two tables"
        seen |= keys


def _usage(catalog: sqlite3.Connection) -> Iterator[str]:
    """I6: the counters equal the sums. One that is being deleted has no usage that anybody could see."""
    for registry, used in catalog.execute("SELECT id, used_bytes FROM registries WHERE status <> 'deleting'"):
        (held,) = catalog.execute(_HELD, (registry,)).fetchone()
        if used != held:
            yield f"I6: {registry} counts {used} bytes and holds {held}"
        (wrong,) = catalog.execute(counts.WRONG_LINKS, {"1": registry}).fetchone()
        if wrong:
            yield f"I6: {wrong} links of {registry} count wrongly"
    if ("links",) not in catalog.execute("SELECT name FROM pragma_table_info('blobs')").fetchall():
        return  # a first start, cut short between two migrations
    for (digest,) in catalog.execute(counts.WRONG_BLOBS, {"1": "", "2": 100}):
        yield f"I6: {digest} counts its links wrongly"
    for digest in _column(catalog, _WRONG_REGISTRY):
        yield f"I6: a link of {digest} names another registry than its repository does"


_HELD = """
SELECT (SELECT COALESCE(SUM(size), 0) FROM blobs WHERE digest IN (
            SELECT l.digest FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id
            WHERE r.registry_id = ?1))
     + (SELECT COALESCE(SUM(size), 0) FROM manifests
        WHERE repository_id IN (SELECT id FROM repositories WHERE registry_id = ?1))
"""
_WRONG_REGISTRY = """
SELECT l.digest FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id
WHERE l.registry_id <> r.registry_id
"""


def _signing(catalog: sqlite3.Connection, root: Path) -> Iterator[str]:
    """The key that signs and those that passwords need are whole files."""
    needed = _column(catalog, "SELECT value FROM installation WHERE name = 'active_key'")
    needed |= _column(catalog, "SELECT key_id FROM credentials")
    for key_id in needed:
        path = root / "keys" / f"{key_id}.pem"
        if not path.exists() or not path.read_bytes().endswith(b"-----END PRIVATE KEY-----\n"):
            yield f"the signing key {key_id} is not a whole file"


def _left_over(catalog: sqlite3.Connection, root: Path, files: Files) -> Iterator[str]:
    """I5: after a start nothing lies about: no file without a row, no trash, no job that nobody runs."""
    for key in files.keys() - _column(catalog, "SELECT key FROM uploads UNION ALL SELECT key FROM blobs"):
        yield f"I5: no table names {files[key]}"
    yield from (f"I5: trash {key} is not taken out" for key in _column(catalog, "SELECT key FROM trash"))
    yield from (f"{registry} is still being deleted" for registry in _column(catalog, _DELETING))
    yield from (f"job {job} still runs" for job in _column(catalog, "SELECT id FROM gc_jobs WHERE status = 'running'"))
    yield from _strangers(root.iterdir(), KNOWN)
    known = _column(catalog, "SELECT value FROM installation WHERE name = 'active_key'")
    known |= {name.partition("/")[2] for name in _column(catalog, _RETIRED)}
    yield from _strangers((root / "keys").iterdir(), {f"{key}{half}.pem" for key in known for half in ("", ".pub")})


_DELETING = "SELECT id FROM registries WHERE status = 'deleting'"
_RETIRED = "SELECT name FROM installation WHERE name LIKE 'retired_key/%'"


def _strangers(found: Iterable[Path], known: set[str]) -> Iterator[str]:
    return (f"I5: nothing knows {path}" for path in found if path.name not in known)
