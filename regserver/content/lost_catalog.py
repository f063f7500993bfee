"""A folder that holds blobs and an empty catalog has lost its catalog. To go on would sweep away every blob."""

from __future__ import annotations

from regserver.storage.blobs.port import BlobStore
from regserver.storage.catalog import accounts
from regserver.storage.sql.port import Reader


class CatalogLost(Exception):
    """There are blobs, and nothing that says whose they are. One line for the operator."""


async def refuse_lost_catalog(reader: Reader, blobs: BlobStore) -> None:
    """Before a first start makes itself at home. Raises CatalogLost; StoreFailed, DatabaseFailed.

    A first start that was cut short has no blobs yet: they come after the signing key.
    """
    if await accounts.active_key(reader) is not None:
        return
    async for batch in blobs.scan():
        if any(file.digest is not None for file in batch):
            raise CatalogLost(
                "the folder holds blobs, but its catalog is new or empty; nothing was changed. Restore a backup, or "
                "move the catalog away and run: regserver rebuild; to begin anew, move the folder blobs away"
            )
