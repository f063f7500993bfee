"""Builders for a blob store: stage, publish, read."""

from __future__ import annotations

import os

from regserver.model.digest import Algorithm, Digest
from regserver.model.ids import new_secret
from regserver.storage.blobs.port import BlobStore, StoredFile

SHA256, SHA512 = Algorithm.SHA256, Algorithm.SHA512


async def stage(store: BlobStore, *parts: bytes, algorithm: Algorithm = SHA256) -> str:
    """A new upload that holds the parts and is in nobody's hands. Returns its key."""
    key = new_secret()
    await store.begin(key, algorithm)
    await append(store, key, *parts, algorithm=algorithm)
    return key


async def append(store: BlobStore, key: str, *parts: bytes, algorithm: Algorithm = SHA256) -> int:
    """As one request would: resume, write, let go. Returns the size afterwards."""
    staged = await store.resume(key, algorithm)
    try:
        await staged.write(parts)
        return staged.size
    finally:
        await staged.close()


async def digest_of(store: BlobStore, key: str, algorithm: Algorithm = SHA256) -> Digest:
    staged = await store.resume(key, algorithm)
    try:
        return await staged.digest(algorithm)
    finally:
        await staged.close()


async def publish(store: BlobStore, key: str, digest: Digest) -> None:
    staged = await store.resume(key, digest.algorithm)
    try:
        await staged.publish(digest)
    finally:
        await staged.close()


async def store_blob(store: BlobStore, content: bytes, algorithm: Algorithm = SHA256) -> tuple[str, Digest]:
    key, digest = await stage(store, content, algorithm=algorithm), Digest.of(content, algorithm)
    await publish(store, key, digest)
    return key, digest


async def read_blob(store: BlobStore, key: str, digest: Digest) -> bytes | None:
    found = await store.open(key, digest)
    if found is None:
        return None
    try:
        return os.pread(found.fd, found.size + 1, 0)
    finally:
        os.close(found.fd)


async def scanned(store: BlobStore) -> set[StoredFile]:
    return {file async for batch in store.scan() for file in batch}
