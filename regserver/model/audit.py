"""Words of the audit log: who acts, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and whence. ``address`` and ``request_id`` are empty where no request asked for it."""

    subject: str
    address: str = ""
    request_id: str = ""


SERVER = Actor("server")  # what the server does by itself: retention, a job resumed


class AuditAction(StrEnum):
    """What the log tells of. The values are part of the management API."""

    REGISTRY_CREATE = "registry.create"
    REGISTRY_UPDATE = "registry.update"
    REGISTRY_DELETE = "registry.delete"
    CREDENTIALS_READ = "credentials.read"
    CREDENTIALS_ROTATE = "credentials.rotate"
    ROBOT_CREATE = "robot.create"
    ROBOT_UPDATE = "robot.update"
    ROBOT_ROTATE = "robot.rotate"
    ROBOT_DELETE = "robot.delete"
    TOKEN_CREATE = "token.create"  # noqa: S105 - a word
    TOKEN_DELETE = "token.delete"  # noqa: S105 - a word
    LOGIN_FAILED = "login.failed"
    MANIFEST_PUSH = "manifest.push"  # by digest alone; with a tag it is tag.push
    MANIFEST_DELETE = "manifest.delete"
    TAG_PUSH = "tag.push"
    TAG_DELETE = "tag.delete"
    TAG_RESTORE = "tag.restore"
    IMAGE_DELETE = "image.delete"
    IMAGE_RESTORE = "image.restore"
    BLOB_DELETE = "blob.delete"
    BLOB_QUARANTINE = "blob.quarantine"  # a scrub found it rotten, once for each registry that has it
    BLOB_RELEASE = "blob.release"  # its file is sound again
    BLOB_HEAL = "blob.heal"  # pushed again
    MANIFEST_QUARANTINE = "manifest.quarantine"
    MANIFEST_HEAL = "manifest.heal"
    GC_START = "gc.start"
    GC_CANCEL = "gc.cancel"
    GC_DRY_RUN = "gc.dry_run"


class AuditResult(StrEnum):
    OK = "ok"
    DENIED = "denied"
