"""What the management API shows, resource by resource."""

from __future__ import annotations

from regserver.mgmt.declared import About, Record, Schema, Whole
from regserver.mgmt.schemas import (
    array,
    digest,
    flag,
    identity,
    mapping,
    nullable,
    number,
    one_of,
    record,
    resource,
    text,
    time,
    whole,
)
from regserver.model.access import Action
from regserver.model.audit import AuditAction, AuditResult
from regserver.model.events import EventType
from regserver.storage.catalog.jobs import JobStatus
from regserver.storage.catalog.registries import Status
from regserver.storage.catalog.scrub import Rot

# ---------------------------------------------------------------- registries

_SHOWN = (Status.ACTIVE, Status.CREATING, Status.ERROR)  # one that is being deleted is not there any more
_IDENTITY: dict[str, Schema] = {
    "id": identity("reg"),
    "name": text("my-images", "The first part of every image's name."),
    "status": one_of(_SHOWN),
    "status_message": text("", "Where the status is error."),
    "public": flag("Anybody may pull."),
    "endpoint": text("registry.example.com/my-images", "What an image's name begins with, for docker."),
}
_FIGURES: dict[str, Schema] = {
    "image_count": whole(15),
    "storage_bytes": whole(2147483648, "Every distinct blob once, and the manifests."),
    "created_at": time(),
}

POLICY = resource(
    "Policy",
    {
        "immutable_tags": nullable(
            record({"patterns": array(text("v*")), "except": array(text("v0.*"))}),
            "Tags that cannot be moved or deleted; null: none.",
        ),
        "retention": nullable(
            record(
                {
                    "keep_last": nullable(whole(10, "Of each image, the tags pushed last.", least=1)),
                    "keep_days": nullable(whole(30, "What was pushed or pulled within so many days.", least=1)),
                    "keep_tags": array(text("release-*")),
                }
            ),
            "What is kept; every other tag goes by itself. null: none goes.",
        ),
        "keep_untagged": flag("A collection leaves manifests that no tag reaches."),
    },
)
REGISTRY_CREATED = resource("RegistryCreated", _IDENTITY, optional=["status_message"])
REGISTRY_SUMMARY = resource("RegistrySummary", {**_IDENTITY, **_FIGURES}, optional=["status_message"])
REGISTRY = resource(
    "Registry",
    {
        **_IDENTITY,
        **_FIGURES,
        "quota": record(
            {
                "storage_gb": nullable(number(50), "The limit in GiB; null: there is none."),
                "used_gb": number(2, "What storage_bytes is in GiB."),
            }
        ),
        "policy": POLICY,
        "updated_at": time("When its settings last changed. Pushes do not count."),
    },
    optional=["status_message"],
)
REGISTRY_CHANGED = resource(
    "RegistryChanged", {name: _IDENTITY[name] for name in ("id", "name", "public")}, about="As it stands now."
)

# ---------------------------------------------------------------- credentials

_LOGIN: dict[str, Schema] = {
    "username": text("robot$my-images"),
    "password": text("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9…"),
}

CREDENTIALS = resource(
    "Credentials",
    {
        **_LOGIN,
        "endpoint": text("registry.example.com", "What docker login takes."),
        "docker_config": record(
            {"auths": mapping(record({"auth": text("cm9ib3QkbXktaW1hZ2VzOmV5Sm…")}))},
            about="The content of a working ~/.docker/config.json.",
        ),
    },
)
_PREVIOUS = time("Until then the earlier password works too.")
ROTATED = resource(
    "RotatedCredentials",
    {**_LOGIN, "previous_valid_until": _PREVIOUS},
    optional=["previous_valid_until"],
)

ROTATION = Record(
    {"grace_seconds": About("How long the earlier password works on; 0 at first.", Whole(0, 86400), 3600)}
)

# ---------------------------------------------------------------- robots

_ROBOT: dict[str, Schema] = {
    "id": identity("rob"),
    "name": nullable(text("ci"), "null: the registry's own."),
    "username": text("robot$my-images+ci", "What docker login takes."),
    "actions": array(one_of(Action)),
    "images": nullable(array(text("team/*")), "Globs over names of images; null: every image."),
    "expires_at": nullable(time(), "null: never."),
    "last_used_at": nullable(time(), "Written now and then."),
    "created_at": time(),
}
ROBOT = resource("Robot", _ROBOT)
ROBOT_CREATED = resource("RobotCreated", {**_ROBOT, "password": _LOGIN["password"]})
ROBOT_ROTATED = resource(
    "RobotRotated",
    {**_ROBOT, "password": _LOGIN["password"], "previous_valid_until": _PREVIOUS},
    optional=["previous_valid_until"],
)

# ---------------------------------------------------------------- images

_IMAGE: dict[str, Schema] = {
    "name": text("team/api", "Without the registry's."),
    "tag_count": whole(5, least=1),
    "size_bytes": whole(157286400, "Every distinct blob once, and the manifests."),
    "last_pushed": time(),
}
_TAG: dict[str, Schema] = {
    "name": text("v1.2.0"),
    "digest": digest(),
    "size_bytes": whole(31457280, "The manifest and all that it references."),
    "pushed_at": time(),
}
_RECLAIMABLE = whole(31457280, "What deleting it and a collection would give back.")
PLATFORM = resource(
    "Platform",
    {"os": text("linux"), "architecture": text("arm64"), "variant": text("v8")},
    optional=["variant"],
)
REFERRER = resource(
    "Referrer",
    {
        "digest": digest(),
        "media_type": nullable(text("application/vnd.oci.image.manifest.v1+json")),
        "artifact_type": nullable(text("application/spdx+json")),
        "size_bytes": whole(1180),
        "annotations": {"type": "object", "description": "As they were pushed."},
    },
    about="A signature, an SBOM, an attestation: a manifest that names this one as its subject.",
)
IMAGE_SUMMARY = resource("ImageSummary", _IMAGE)
_LAST_PULLED = nullable(time(), "Written now and then; null: never.")
IMAGE = resource("Image", {**_IMAGE, "last_pulled": _LAST_PULLED, "reclaimable_bytes": _RECLAIMABLE})
TAG_SUMMARY = resource("TagSummary", _TAG)
TAG = resource(
    "Tag",
    {
        **_TAG,
        "media_type": text("application/vnd.oci.image.index.v1+json"),
        "artifact_type": nullable(text("application/spdx+json")),
        "platforms": array(PLATFORM, "What it runs on; empty where it is no image."),
        "referrers": array(REFERRER),
        "last_pulled": _LAST_PULLED,
        "reclaimable_bytes": _RECLAIMABLE,
        "damaged": flag("Something that it needs has rotted: push it again.", example=True),
    },
    optional=["damaged"],
)
TAG_EVENT = resource(
    "TagEvent",
    {
        "action": one_of(["set", "deleted"]),
        "digest": nullable(digest(), "What it named from then on; null where it was deleted."),
        "by": text("robot$my-images"),
        "at": time(),
        "restorable": flag("What it named is still there.", example=True),
        "restorable_until": nullable(time(), "At least; null: no end, or it is gone."),
    },
)
TAG_RESTORED = resource("TagRestored", {"name": text("v1.2.0"), "digest": digest()})
IMAGE_RESTORED = resource(
    "ImageRestored",
    {
        "name": text("team/api"),
        "restored": array(text("v1.2.0"), "The tags that name again what they named."),
        "failed": array(text("v0.9"), "The tags whose manifests are gone."),
    },
)

RETENTION_ITEM = resource(
    "RetentionItem",
    {
        "image": text("team/api"),
        "tag": text("v0.9"),
        "digest": digest(),
        "action": one_of(["delete", "keep"]),
        "reason": text("not one of the 10 pushed last"),
        "pushed_at": time(),
        "last_pulled": _LAST_PULLED,
    },
)

# ---------------------------------------------------------------- garbage collection

_JOB: dict[str, Schema] = {"job_id": identity("gc"), "status": one_of(JobStatus), "started_at": time()}
JOB_STARTED = resource("JobStarted", _JOB)
JOB = resource(
    "Job",
    {
        **_JOB,
        "phase": text("files", "What it is doing."),
        "progress": record({"done": whole(0), "total": whole(0)}, about="Steps of the phase."),
        "bytes_freed": whole(1073741824, "What the disk got back."),
        "blobs_deleted": whole(12),
        "manifests_deleted": whole(4),
        "dry_run": flag("Nothing was deleted: the figures say what would have been.", example=True),
        "held": array(
            record({"image": text("team/api"), "digest": digest(), "seconds": whole(900)}),
            "What a push in progress still holds, and for at most how many seconds.",
        ),
        "error": text("", "Why it failed."),
        "started_by": text("admin", "schedule, where the server did it by itself."),
        "cancelled_by": text("admin", "Where somebody ended it; the status is failed."),
        "completed_at": time(),
    },
    optional=["dry_run", "held", "error", "started_by", "cancelled_by", "completed_at"],
)
REPORT_ITEM = resource(
    "ReportItem",
    {
        "kind": one_of(["manifest", "blob"]),
        "image": nullable(text("team/api")),
        "digest": digest(),
        "reason": text("untagged", "Why nothing holds it."),
        "size_bytes": whole(31457280),
    },
)
EXPLANATION = resource(
    "Explanation",
    {
        "digest": digest(),
        "kind": one_of(["manifest", "blob"]),
        "kept": flag("False: the next collection takes it.", example=True),
        "reason": one_of(["tag", "keep_untagged", "lease", "untagged_window", "undo_window", "other_registry", "none"]),
        "image": nullable(text("team/api")),
        "path": array(text("v1.2.0"), "From a tag down to the digest, the shortest way."),
        "until": nullable(time(), "When the lease or the window ends."),
        "damaged": flag("It has rotted, and is served to nobody until it is pushed again.", example=True),
    },
    optional=["damaged"],
)

# ---------------------------------------------------------------- scrub

SCRUB = resource(
    "Scrub",
    {
        "status": one_of(["running", "waiting", "off"]),
        "bytes_per_second": whole(8388608, "What it reads at most; 0: it is off."),
        "phase": one_of(["blobs", "manifests", "files", "usage", "done"]),
        "progress": record({"done": whole(1073741824), "total": whole(2147483648)}, about="Bytes of the pass."),
        "blobs_read": whole(1200),
        "manifests_read": whole(90),
        "damaged_blobs": whole(0, "Now, and served to nobody until they are pushed again."),
        "damaged_manifests": whole(0),
        "started_at": time(),
        "completed_at": time(),
        "next_at": time("When the next pass begins."),
    },
    optional=["phase", "progress", "blobs_read", "manifests_read", "started_at", "completed_at", "next_at"],
)
DAMAGE = resource(
    "Damage",
    {
        "kind": one_of(["blob", "manifest"]),
        "digest": digest(),
        "fault": one_of(Rot),
        "found_at": time(),
        "images": array(text("my-images/api"), "Where it is used; not all of very many."),
    },
)

# ---------------------------------------------------------------- API tokens

SCOPE_FORM = r"^(?:admin|read|registry:reg_[0-9a-v]{26})$"
_API_TOKEN: dict[str, Schema] = {
    "id": identity("tok"),
    "name": text("ci"),
    "scopes": array(
        text("read", pattern=r"^(?:admin|read|registry:reg_[0-9a-v]{26})$"),
        "admin, read, or registry: and a registry's id.",
    ),
    "expires_at": nullable(time(), "null: never."),
    "last_used_at": nullable(time(), "Written now and then."),
    "created_at": time(),
}
API_TOKEN = resource("ApiToken", _API_TOKEN)
API_TOKEN_CREATED = resource(
    "ApiTokenCreated", {**_API_TOKEN, "token": text("rsv_…", "Shown this once: the server keeps only its hash.")}
)

# ---------------------------------------------------------------- audit log

AUDIT_EVENT = resource(
    "AuditEvent",
    {
        "id": identity("evt"),
        "at": time(),
        "actor": text("robot$my-images", "The account; server: what it does by itself; unknown: nobody that exists."),
        "action": one_of(AuditAction),
        "registry_id": nullable(identity("reg")),
        "registry": nullable(text("my-images"), "The name that it had."),
        "image": nullable(text("team/api")),
        "reference": nullable(text("v1.2.0"), "The tag, robot, API token or collection."),
        "digest": nullable(digest()),
        "detail": nullable(text("public: yes, quota: the server's"), "More, for people."),
        "address": text("192.0.2.7", "Where the request came from; empty where none asked for it."),
        "request_id": text("req_06a9v3k7fshb72q0e5dcm1n8p4", "X-Request-Id of the answer."),
        "result": one_of(AuditResult),
    },
)

# ---------------------------------------------------------------- events

_OF_ALL: dict[str, Schema] = {
    "id": whole(17, "Grows with every commit."),
    "type": one_of(EventType),
    "at": time(),
    "registry_id": identity("reg"),
    "registry": text("my-images", "The name that it had."),
    "image": nullable(text("team/api"), "null: the registry itself."),
    "reference": nullable(text("v1.2.0"), "The tag, or the collection."),
    "digest": nullable(digest()),
    "actor": text("robot$my-images", "The account; server: what it does by itself."),
    "request_id": text("req_06a9v3k7fshb72q0e5dcm1n8p4", "X-Request-Id of the answer; empty where none asked for it."),
}
_OF_SOME: dict[str, Schema] = {
    "detail": text("was sha256:…", "pushed, deleted: more, for people."),
    "count": whole(1, "pulled: how often since the last event.", least=1),
    "upload": text("upl_06a9v3k7fshb72q0e5dcm1n8p4", "progress: the same in all events of one upload."),
    "received_bytes": whole(104857600, "progress: how much is here."),
    "state": one_of(["receiving", "complete", "failed"], "progress."),
    "status": one_of([JobStatus.COMPLETED, JobStatus.FAILED], "collected."),
    "bytes_freed": whole(1073741824, "collected."),
    "blobs_deleted": whole(12, "collected."),
    "manifests_deleted": whole(3, "collected."),
    "error": nullable(text("cancelled; what it had freed stays freed"), "collected: why it failed."),
    "reason": one_of(["nearly_full", "refused", "changed"], "quota."),
    "used_bytes": whole(2147483648, "quota."),
    "limit_bytes": nullable(whole(53687091200), "quota; null: the server's default."),
    "needed_bytes": whole(104857600, "quota, refused: what did not fit."),
}
EVENT = resource("Event", {**_OF_ALL, **_OF_SOME}, optional=_OF_SOME)
ENDS = ("shutdown", "expired", "unauthorized", "slow", "unavailable")  # why a stream is closed
SENT_EVENT = record(
    {
        "id": text("17", "What Last-Event-ID names."),
        "event": one_of([*EventType, "lost", "closing"]),
        "data": text(
            '{"id": 17, "type": "pushed", …}',
            "JSON: an Event; of `lost`, what is kept no more; of `closing`, why the stream ends.",
            contentMediaType="application/json",
            contentSchema={
                "anyOf": [EVENT, record({"after": whole(3), "until": whole(9)}), record({"reason": one_of(ENDS)})]
            },
        ),
    },
    optional=["id"],
)
