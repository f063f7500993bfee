-- What a registry does with its tags. No row: nothing. immutable_tags and retention are JSON, as the management API shows
-- them; NULL: none. retention_epoch: when retention last ran, or was last changed; NULL where there is none.
CREATE TABLE policies (
    registry_id {TEXT} PRIMARY KEY REFERENCES registries (id),
    immutable_tags {TEXT},
    retention {TEXT},
    keep_untagged INTEGER NOT NULL,
    retention_epoch BIGINT
) {CLUSTERED};
CREATE INDEX policies_by_retention ON policies (retention_epoch) WHERE retention_epoch IS NOT NULL;

-- When a manifest was last fetched. Written in batches: epoch is that of the writing, so never too old.
CREATE TABLE manifest_pulls (
    repository_id BIGINT NOT NULL,
    digest {TEXT} NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
) {CLUSTERED};
