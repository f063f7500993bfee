"""I1 and the keys held against an open store, on either engine: rows, their files, and the edges between rows."""

from __future__ import annotations

import os

from regserver.model.digest import Digest
from support.store import Store

NOTHING_THERE = {
    "a link": "SELECT count(*) FROM repository_blobs WHERE digest NOT IN (SELECT digest FROM blobs)",
    "a lease": "SELECT count(*) FROM blob_leases WHERE digest NOT IN (SELECT digest FROM blobs)",
    "an edge": "SELECT count(*) FROM manifest_blobs e WHERE NOT EXISTS (SELECT 1 FROM repository_blobs l"
    " WHERE l.repository_id = e.repository_id AND l.digest = e.digest)",
    "a child": "SELECT count(*) FROM manifest_children e WHERE NOT EXISTS (SELECT 1 FROM manifests m"
    " WHERE m.repository_id = e.repository_id AND m.digest = e.child)",
    "a tag": "SELECT count(*) FROM tags t WHERE NOT EXISTS (SELECT 1 FROM manifests m"
    " WHERE m.repository_id = t.repository_id AND m.digest = t.digest)",
}
KEYS = "SELECT key FROM uploads UNION ALL SELECT key FROM blobs UNION ALL SELECT key FROM trash"


async def assert_whole(store: Store) -> None:
    """Every blob that is not withdrawn has its file with its bytes, every edge its end, and every key one table."""
    for what, sql in NOTHING_THERE.items():
        assert (await store.core.db.fetch(sql))[0][0] == 0, f"I1: {what} to nothing"
    for text, key in await store.core.db.fetch("SELECT digest, key FROM blobs WHERE rotten IS NULL"):
        digest = Digest(text)
        file = await store.core.blobs.open(key, digest)
        assert file is not None, f"I1: {text} has a row and no file"
        try:
            assert Digest.of(os.pread(file.fd, file.size + 1, 0), digest.algorithm) == digest, f"I1: bytes of {text}"
        finally:
            os.close(file.fd)
    keys = [row[0] for row in await store.core.db.fetch(KEYS)]
    assert len(keys) == len(set(keys)), "L3: a key is in two tables"


async def assert_settled(store: Store) -> None:
    """After what a start does in the background: whole, no trash, and no file without a name."""
    await assert_whole(store)
    assert await store.core.db.fetch("SELECT key FROM trash") == [], "trash that nobody takes out"
    assert [file.key async for file in store.collector.nameless()] == [], "I5: a file without a name"
