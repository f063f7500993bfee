-- What a scrub found to be no longer what its digest says: rotten_at in milliseconds, rotten in what way. Nobody is
-- served it; its row and its links stay, so that pushing the bytes again heals it wherever it is used.
ALTER TABLE blobs ADD COLUMN rotten {TEXT};
ALTER TABLE blobs ADD COLUMN rotten_at BIGINT;
CREATE INDEX blobs_rotten ON blobs (digest) WHERE rotten IS NOT NULL;

-- Behind the content, and yet read without it: a NULL takes no place in a row.
ALTER TABLE manifests ADD COLUMN rotten_at BIGINT;
CREATE INDEX manifests_rotten ON manifests (repository_id, digest) WHERE rotten_at IS NOT NULL;

-- One row: the scrub in the background. phase NULL: the last pass has ended, at ended_at. Otherwise it goes on behind
-- (repository_id, after). Times in milliseconds; they delete nothing.
CREATE TABLE scrub (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    phase {TEXT},
    repository_id BIGINT NOT NULL,
    after {TEXT} NOT NULL,
    blobs BIGINT NOT NULL,
    manifests BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    bytes_total BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT
);

-- When a collection of the registry last began, in milliseconds: the schedule's next one is an interval after it.
ALTER TABLE registries ADD COLUMN collected_at BIGINT NOT NULL DEFAULT 0;
UPDATE registries SET collected_at = created_at;
CREATE INDEX registries_by_collection ON registries (status, collected_at);

-- started_by, cancelled_by: whose doing it was. patient: it waits out the window in which a deleted tag can be undone;
-- nobody but the schedule does. asked: how often it was asked for while it ran; it ends with a run begun after the last.
ALTER TABLE gc_jobs ADD COLUMN started_by {TEXT} NOT NULL DEFAULT '';
ALTER TABLE gc_jobs ADD COLUMN cancelled_by {TEXT};
ALTER TABLE gc_jobs ADD COLUMN patient INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gc_jobs ADD COLUMN asked BIGINT NOT NULL DEFAULT 1;
