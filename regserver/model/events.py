"""Words of the event feed: what people and programs watch happen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from regserver.model.audit import AuditAction


class EventType(StrEnum):
    """What an event tells of. The values are part of the management API."""

    PROGRESS = "progress"  # a blob is being uploaded: noted every few seconds, by uploads that last that long
    PUSHED = "pushed"  # a tag was set by a push, or a manifest came without one
    PULLED = "pulled"  # a manifest was fetched: told together for all who did within a few seconds
    DELETED = "deleted"  # a tag, manifest, blob or image, or the registry where no image is named
    RESTORED = "restored"  # a tag names again what it named before
    COLLECTED = "collected"  # a collection has ended
    QUOTA = "quota"  # a registry has become nearly full, refuses what does not fit, or got another quota


# Lines of the audit log that are events too: written by the same call, in the same transaction.
OF_ACTION: Mapping[AuditAction, EventType] = MappingProxyType(
    {
        AuditAction.TAG_PUSH: EventType.PUSHED,
        AuditAction.MANIFEST_PUSH: EventType.PUSHED,
        AuditAction.TAG_DELETE: EventType.DELETED,
        AuditAction.MANIFEST_DELETE: EventType.DELETED,
        AuditAction.BLOB_DELETE: EventType.DELETED,
        AuditAction.IMAGE_DELETE: EventType.DELETED,
        AuditAction.REGISTRY_DELETE: EventType.DELETED,
        AuditAction.TAG_RESTORE: EventType.RESTORED,  # each of an image's, too
    }
)
