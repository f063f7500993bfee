-- Who did what to what, and from where. Append-only: rows are inserted, and go when they are old, nothing else. No foreign
-- key: a line outlives the registry that it tells of. Ids sort by time; epoch is the age that permits the deletion.
CREATE TABLE audit (
    id {TEXT} PRIMARY KEY,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    actor {TEXT} NOT NULL,
    action {TEXT} NOT NULL,
    registry_id {TEXT},
    registry {TEXT},
    image {TEXT},
    reference {TEXT},
    digest {TEXT},
    detail {TEXT},
    address {TEXT} NOT NULL,
    request_id {TEXT} NOT NULL,
    result {TEXT} NOT NULL
) {CLUSTERED};
CREATE INDEX audit_by_registry_id ON audit (registry_id, id);
CREATE INDEX audit_by_registry ON audit (registry, id);
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_action ON audit (action, id);
