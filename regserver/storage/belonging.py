"""Which catalog a folder belongs to: one that knows nothing of the folder's blobs would take them all for orphans.

The file ``installation`` holds the catalog's id. Order of effects: the catalog has its id, durably, before the file
names it; so a file without its catalog, and blobs before a catalog has an id, are always another catalog's.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from regserver.storage.blobs.disk import open_directory
from regserver.storage.blobs.port import BlobStore
from regserver.storage.catalog import accounts
from regserver.storage.sql.port import Database

FILE = "installation"


class FolderRefused(Exception):
    """This folder belongs to another catalog; nothing was changed. The text says what to do."""


def refuse_without(root: Path, catalog: str) -> None:
    """Before a catalog is made in the folder. Raises FolderRefused if blobs are left of one that was there."""
    if not (root / catalog).exists() and next((root / "blobs").glob("*/*/*"), None) is not None:
        raise FolderRefused(
            f"{root} holds blobs, but {catalog} is missing: put it back (or name its server with --database), restore "
            f"a backup into another folder, or run: regserver rebuild --root {root}"
        )


async def claim(root: Path, db: Database, blobs: BlobStore) -> None:
    """Ties the folder to the catalog at their first start together, and refuses any other one from then on.

    Raises FolderRefused, OSError, DatabaseFailed.
    """
    if await _is_new(db):
        # Asked again after the look: another first start gives the catalog its id before it writes anything here.
        if (owner(root) is not None or await _holds_any(blobs)) and await _is_new(db):
            raise FolderRefused(
                f"{root}: this folder holds the blobs of another catalog, for that which --database names (without it "
                "catalog.sqlite3) is empty. Restore a backup, or name the catalog that belongs to it, or a new folder"
            )
        await db.write(accounts.establish)
    await check(root, db)
    if owner(root) is None:
        await asyncio.to_thread(_write, root, await accounts.installation_id(db))


async def check(root: Path, db: Database) -> None:
    """Raises FolderRefused if the folder is known to belong to another catalog."""
    known = owner(root)
    if known is not None and (await _is_new(db) or known != await accounts.installation_id(db)):
        raise FolderRefused(
            f"{root}: this folder belongs to another catalog ({known}) than the one that --database names (without it, "
            "than catalog.sqlite3); name the one that belongs to it, or another folder"
        )


def owner(root: Path) -> str | None:
    """The id of the catalog that the folder belongs to; None before its first start."""
    try:
        return (root / FILE).read_text("ascii").strip()
    except FileNotFoundError:
        return None


async def _is_new(db: Database) -> bool:
    try:
        await accounts.installation_id(db)
    except LookupError:
        return True
    return False


async def _holds_any(blobs: BlobStore) -> bool:
    async for batch in blobs.scan():
        if batch:
            return True
    return False


def _write(root: Path, identity: str) -> None:
    """Durable and whole, or absent."""
    draft = root / f".{FILE}.{secrets.token_hex(8)}"  # its own: of two first starts none writes into the other's
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{identity}\n".encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        draft.rename(root / FILE)
    except FileNotFoundError:  # another start has tidied, which it does once the file stands
        return
    for left in root.glob(f".{FILE}.*"):  # of starts that ended in between
        left.unlink(missing_ok=True)
    folder = open_directory(root)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
