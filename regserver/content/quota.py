"""What of an upload is refused before its commit, so that no terabyte is taken in vain (docs/management.md, Quotas).

The commit alone decides: a blob that the registry has already is charged with nothing. So what comes earlier refuses
only what no commit would take as things stand, and looks for a digest only once its bytes are here: a question without
them would tell what other images hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from regserver.content.core import Core
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.storage.catalog import blobs


async def refuse_on_the_way(core: Core, target: Target, size: int) -> None:
    """``size`` bytes have come and more may: there is room for them, or they may be those of a blob that is here, which
    is no larger than all that is used. Raises RegistryError DENIED where neither is so."""
    usage = await core.usage(core.db, target.registry_id)
    if usage.room is not None and size > max(usage.room, usage.used):
        raise core.quota_exceeded(target.registry_id, usage, size)


async def refuse_new(core: Core, target: Target, size: int, digest: Callable[[], Awaitable[Digest]]) -> None:
    """``size`` bytes of that ``digest`` have come: there is room for them, or the registry has them already.

    Raises RegistryError DENIED where neither is so. ``digest`` is asked for only if it matters.
    """
    usage = await core.usage(core.db, target.registry_id)
    if usage.room is None or size <= usage.room:
        return
    if await blobs.size_in_registry(core.db, target.registry_id, str(await digest())) is None:
        raise core.quota_exceeded(target.registry_id, usage, size)
