-- The catalog. One statement per semicolon. Filled in per engine: {TEXT} text in bytewise order, {BYTES} binary,
-- {ID} an identity primary key, {CLUSTERED} what stores rows in their primary key. Times: milliseconds; ages: epochs.
-- Constraints are the backstop: every edge is a foreign key that refuses, none is deferrable.

CREATE TABLE installation (
    name {TEXT} PRIMARY KEY,
    value {TEXT} NOT NULL
);

-- One row: the epoch advances while the monotonic clock of this boot does (docs/storage-layout.md).
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    boot_id {TEXT} NOT NULL,
    mono BIGINT NOT NULL
);

CREATE TABLE registries (
    id {TEXT} PRIMARY KEY,
    name {TEXT} NOT NULL,
    status {TEXT} NOT NULL CHECK (status IN ('creating', 'active', 'error', 'deleting')),
    status_message {TEXT},
    public INTEGER NOT NULL,
    quota_bytes BIGINT,
    used_bytes BIGINT NOT NULL DEFAULT 0 CHECK (used_bytes >= 0),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX registries_by_name ON registries (name) WHERE status <> 'deleting';
CREATE INDEX registries_by_status ON registries (status, id);

CREATE TABLE credentials (
    id {TEXT} PRIMARY KEY,
    registry_id {TEXT} NOT NULL REFERENCES registries (id),
    username {TEXT} NOT NULL UNIQUE,
    actions {TEXT} NOT NULL,
    version BIGINT NOT NULL,
    key_id {TEXT} NOT NULL,
    claims {TEXT} NOT NULL,
    created_at BIGINT NOT NULL,
    rotated_at BIGINT
);
CREATE INDEX credentials_by_registry ON credentials (registry_id);
CREATE INDEX credentials_by_key ON credentials (key_id);

CREATE TABLE repositories (
    id {ID},
    registry_id {TEXT} NOT NULL REFERENCES registries (id),
    name {TEXT} NOT NULL,
    UNIQUE (registry_id, name)
);

CREATE TABLE blobs (
    digest {TEXT} PRIMARY KEY,
    size BIGINT NOT NULL CHECK (size >= 0),
    key {TEXT} NOT NULL UNIQUE
);

CREATE TABLE uploads (
    id {TEXT} PRIMARY KEY,
    key {TEXT} NOT NULL UNIQUE,
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    subject {TEXT} NOT NULL,
    algorithm {TEXT} NOT NULL,
    epoch BIGINT NOT NULL
);
CREATE INDEX uploads_by_repository ON uploads (repository_id);
CREATE INDEX uploads_by_epoch ON uploads (epoch);

-- What is to be unlinked. size and job_id: whose collection gets the bytes credited, once, when the row goes.
CREATE TABLE trash (
    key {TEXT} PRIMARY KEY,
    digest {TEXT},
    size BIGINT,
    job_id {TEXT}
);
CREATE INDEX trash_by_job ON trash (job_id) WHERE job_id IS NOT NULL;

-- registry_id repeats what repositories says, so that "anywhere else in this registry?" is one index range.
CREATE TABLE repository_blobs (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest {TEXT} NOT NULL REFERENCES blobs (digest),
    registry_id {TEXT} NOT NULL REFERENCES registries (id),
    PRIMARY KEY (repository_id, digest)
) {CLUSTERED};
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest, registry_id);
CREATE INDEX repository_blobs_by_registry ON repository_blobs (registry_id, digest);

-- content stays last: reading the columns before it does not touch its pages.
CREATE TABLE manifests (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest {TEXT} NOT NULL,
    media_type {TEXT} NOT NULL,
    size BIGINT NOT NULL,
    subject {TEXT},
    artifact_type {TEXT},
    annotations {TEXT},
    was_held INTEGER NOT NULL,
    pushed_at BIGINT NOT NULL,
    pushed_epoch BIGINT NOT NULL,
    released_epoch BIGINT,
    content {BYTES} NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE manifest_blobs (
    repository_id BIGINT NOT NULL,
    manifest {TEXT} NOT NULL,
    digest {TEXT} NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES repository_blobs (repository_id, digest)
) {CLUSTERED};
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repository_id, digest);

CREATE TABLE manifest_children (
    repository_id BIGINT NOT NULL,
    parent {TEXT} NOT NULL,
    child {TEXT} NOT NULL,
    PRIMARY KEY (repository_id, parent, child),
    FOREIGN KEY (repository_id, parent) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, child) REFERENCES manifests (repository_id, digest)
) {CLUSTERED};
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child);

-- What a manifest names and need not have. entry = 1: an index's entry, met by a manifest or a blob; 0: a blob.
CREATE TABLE missing_references (
    repository_id BIGINT NOT NULL,
    manifest {TEXT} NOT NULL,
    digest {TEXT} NOT NULL,
    size BIGINT NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest)
) {CLUSTERED};
CREATE INDEX missing_references_by_digest ON missing_references (repository_id, digest);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL,
    name {TEXT} NOT NULL,
    digest {TEXT} NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
) {CLUSTERED};
CREATE INDEX tags_by_digest ON tags (repository_id, digest);

-- Append-only. digest NULL: the tag was deleted.
CREATE TABLE tag_events (
    id {ID},
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    name {TEXT} NOT NULL,
    digest {TEXT},
    subject {TEXT} NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL
);
CREATE INDEX tag_events_by_tag ON tag_events (repository_id, name, id);

CREATE TABLE blob_leases (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    session {TEXT} NOT NULL,
    digest {TEXT} NOT NULL REFERENCES blobs (digest),
    count BIGINT NOT NULL CHECK (count > 0),
    epoch BIGINT NOT NULL,
    PRIMARY KEY (repository_id, session, digest)
) {CLUSTERED};
CREATE INDEX blob_leases_by_digest ON blob_leases (digest);
CREATE INDEX blob_leases_by_epoch ON blob_leases (epoch);

CREATE TABLE manifest_leases (
    repository_id BIGINT NOT NULL,
    session {TEXT} NOT NULL,
    digest {TEXT} NOT NULL,
    count BIGINT NOT NULL CHECK (count > 0),
    epoch BIGINT NOT NULL,
    PRIMARY KEY (repository_id, session, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
) {CLUSTERED};
CREATE INDEX manifest_leases_by_digest ON manifest_leases (repository_id, digest);
CREATE INDEX manifest_leases_by_epoch ON manifest_leases (epoch);

CREATE TABLE gc_jobs (
    id {TEXT} PRIMARY KEY,
    registry_id {TEXT} NOT NULL REFERENCES registries (id),
    status {TEXT} NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    phase {TEXT} NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    total BIGINT NOT NULL DEFAULT 0,
    bytes_freed BIGINT NOT NULL DEFAULT 0,
    blobs_deleted BIGINT NOT NULL DEFAULT 0,
    manifests_deleted BIGINT NOT NULL DEFAULT 0,
    report {TEXT},
    error {TEXT},
    started_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE UNIQUE INDEX gc_jobs_running ON gc_jobs (registry_id) WHERE status = 'running';
CREATE INDEX gc_jobs_by_registry ON gc_jobs (registry_id, id);
