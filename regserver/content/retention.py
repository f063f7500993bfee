"""Retention: which tags go by themselves. Planned purely, done separately, and nothing is done where it is not certain.

A plan chooses what to try. The transaction that deletes plans again, over the tags that it is about and those that were
pushed last: what somebody pushes, deletes or decides meanwhile counts. That is enough, because a plan of some tags
keeps whatever a plan of more of them keeps.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from regserver.content.core import Core
from regserver.errors import ErrorCode, RegistryError
from regserver.model.audit import Actor
from regserver.model.policy import Document, Policy, PolicyRefused, Retention, matching
from regserver.model.times import now_ms
from regserver.storage.catalog import clock, holders, policies, pulls, registries, repositories, tags
from regserver.storage.catalog.pulls import TagFacts
from regserver.storage.catalog.registries import Status
from regserver.storage.sql.port import Reader, Transaction

log = logging.getLogger("regserver.retention")

ACTOR = Actor("retention")
BATCH = 200  # tags deleted in one transaction
TURN = 20  # registries in one turn of the housekeeping
DAY = 86400

# What clients without the referrers API, and cosign, tag: the digest that it belongs to, and perhaps what it is.
_COMPANION = re.compile(r"(?:sha256|sha512)-[0-9a-f]{64}(?:\.[a-z0-9.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of a tag, and why, in words."""

    tag: TagFacts
    keep: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ImageFate:
    image: str
    fate: Fate


def plan(policy: Policy, found: Sequence[TagFacts], floor: int) -> list[Fate]:
    """The fate of every tag of one image. ``floor``: the oldest epoch that is still within ``keep_days``.

    A tag stays if any rule keeps it, and an immutable one always does. With more tags ``found`` none is kept that would
    not be with less. A signature or attestation that is tagged by the
    digest it belongs to stays as long as that is there, and takes no place among the last.
    """
    retention = policy.retention
    if retention is None:
        return [Fate(tag, True, "no retention is set") for tag in found]
    last, fates = set(_pushed_last(retention, found)), []
    for tag in found:
        kept = _kept(policy, retention, tag, last, floor)
        fates.append(Fate(tag, kept is not None, kept or _lost(retention, tag)))
    return fates


def _pushed_last(retention: Retention, found: Sequence[TagFacts]) -> list[str]:
    ordinary = sorted((tag for tag in found if not is_companion(tag.name)), key=lambda tag: tag.order, reverse=True)
    return [tag.name for tag in ordinary[: retention.keep_last or 0]]


def is_companion(name: str) -> bool:
    return _COMPANION.fullmatch(name) is not None


def _kept(policy: Policy, retention: Retention, tag: TagFacts, last: set[str], floor: int) -> str | None:
    """The first rule that keeps it."""
    immutable = policy.immutable.protects(tag.name) if policy.immutable else None
    if immutable:
        return f"immutable: it matches {immutable}"
    if tag.name in last:
        return f"one of the {retention.keep_last} pushed last"
    if retention.keep_days is not None:
        if tag.pushed_epoch >= floor:
            return f"pushed within {retention.keep_days} days"
        if tag.pulled_epoch is not None and tag.pulled_epoch >= floor:
            return f"pulled within {retention.keep_days} days"
    pattern = matching(tag.name, retention.keep_tags)
    if pattern:
        return f"it matches {pattern}"
    return "what it belongs to is there" if is_companion(tag.name) and tag.described else None


def _lost(retention: Retention, tag: TagFacts) -> str:
    """Each rule that does not keep it."""
    reasons = []
    if is_companion(tag.name):
        reasons.append("what it belongs to is gone")
    elif retention.keep_last is not None:
        reasons.append(f"not one of the {retention.keep_last} pushed last")
    if retention.keep_days is not None:
        reasons.append(f"neither pushed nor pulled within {retention.keep_days} days")
    if retention.keep_tags:
        reasons.append(f"matches none of {', '.join(retention.keep_tags)}")
    return "; ".join(reasons)


class Retentions:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def dry_run(self, registry_id: str, changes: Document | None, *, changed: bool) -> list[ImageFate]:
        """The fate of every tag of a registry, as its policy is or, if ``changed``, as the changes would make it.

        What would go comes first, then by image and tag. Raises RegistryError NOT_FOUND, VALIDATION_FAILED.
        """
        await self._core.pulls.flush(self._core.db)

        async def body(reader: Reader) -> list[ImageFate]:
            if await registries.by_id(reader, registry_id) is None:
                raise RegistryError(ErrorCode.NOT_FOUND)
            policy = await policies.find(reader, registry_id)
            policy = changed_policy(policy, changes) if changed else policy
            names = await holders.image_names(reader, registry_id)
            floor = await self._floor(reader, policy)
            return [
                ImageFate(image, fate)
                for repository_id, image in names.items()
                for fate in plan(policy, await pulls.tag_facts(reader, repository_id), floor)
            ]

        fates = await self._core.db.read(body)
        return sorted(fates, key=lambda one: (one.fate.keep, one.image, one.fate.tag.name))

    async def run_due(self) -> int:
        """Retention of the registries whose turn it is; returns how many tags went. One that fails holds up no other.

        Raises DatabaseFailed.
        """
        epoch, every = await clock.epoch(self._core.db), self._core.epochs(self._core.settings.retention_seconds)
        count = 0
        for registry_id in await policies.due(self._core.db, epoch - every, TURN):
            try:
                count += await self.run(registry_id)
            except ValueError as unreadable:
                log.error("retention of %s is left out: %s", registry_id, unreadable)  # noqa: TRY400
            await self._core.db.write(partial(policies.ran, registry_id=registry_id, epoch=epoch))
        return count

    async def run(self, registry_id: str) -> int:
        """Deletes the tags of a registry that nothing keeps; returns how many. Raises DatabaseFailed, ValueError."""
        await self._core.pulls.flush(self._core.db)  # before anything is planned
        count = 0
        for repository_id in await repositories.in_registry(self._core.db, registry_id):
            doomed, last = await self._core.db.read(partial(self._choose, registry_id, repository_id))
            for start in range(0, len(doomed), BATCH):
                count += await self._take(registry_id, repository_id, doomed[start : start + BATCH], last)
        if count:
            log.info("retention deleted %d tags of %s", count, registry_id)
        return count

    async def _choose(self, registry_id: str, repository_id: int, reader: Reader) -> tuple[list[str], list[str]]:
        """The tags of an image that nothing keeps, the oldest first, and those that keep_last does."""
        policy = await self._policy(reader, registry_id)
        if policy is None or policy.retention is None:
            return [], []
        found = await pulls.tag_facts(reader, repository_id)
        fates = plan(policy, found, await self._floor(reader, policy))
        doomed = sorted((fate.tag for fate in fates if not fate.keep), key=lambda tag: tag.order)
        return [tag.name for tag in doomed], _pushed_last(policy.retention, found)

    async def _take(self, registry_id: str, repository_id: int, chosen: Sequence[str], last: Sequence[str]) -> int:
        async def body(tx: Transaction) -> int:
            policy = await self._policy(tx, registry_id)
            if policy is None:
                return 0
            found = [await pulls.facts_of(tx, repository_id, name) for name in (*chosen, *last)]
            fates = plan(policy, [facts for facts in found if facts], await self._floor(tx, policy))
            doomed = [fate.tag.name for fate in fates if not fate.keep]
            epoch, now = await clock.epoch(tx), now_ms()
            for name in doomed:
                await tags.remove(tx, repository_id, name, ACTOR, now=now, epoch=epoch)
            return len(doomed)

        return await self._core.db.write(body)

    async def _policy(self, reader: Reader, registry_id: str) -> Policy | None:
        """None where the registry is not there any more: what it had goes with it."""
        registry = await registries.by_id(reader, registry_id)
        active = registry is not None and registry.status is Status.ACTIVE
        return await policies.find(reader, registry_id) if active else None

    async def _floor(self, reader: Reader, policy: Policy) -> int:
        days = (policy.retention and policy.retention.keep_days) or 0
        return await clock.epoch(reader) - self._core.epochs(days * DAY)


def changed_policy(policy: Policy, changes: Document | None) -> Policy:
    """Raises RegistryError VALIDATION_FAILED where the result could not stand."""
    try:
        return policy.changed(changes)
    except PolicyRefused as refused:
        fault = {"field": refused.field, "code": "required", "message": str(refused)}
        raise RegistryError(ErrorCode.VALIDATION_FAILED, [fault]) from None
