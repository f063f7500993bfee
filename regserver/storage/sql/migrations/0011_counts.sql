-- What would otherwise be counted each time, kept in the transaction that changes what it counts: of a blob, how many
-- repositories link it; of a link, the blob's size, how many manifests here use it, and whether it is the blob's only one
-- anywhere. They choose what a collection tries and what a forecast shows. What deletes asks the rows themselves.
ALTER TABLE blobs ADD COLUMN links BIGINT NOT NULL DEFAULT 0 CHECK (links >= 0);
UPDATE blobs SET links = (SELECT count(*) FROM repository_blobs AS l WHERE l.digest = blobs.digest);

ALTER TABLE repository_blobs ADD COLUMN size BIGINT NOT NULL DEFAULT 0 CHECK (size >= 0);
ALTER TABLE repository_blobs ADD COLUMN users BIGINT NOT NULL DEFAULT 0 CHECK (users >= 0);
ALTER TABLE repository_blobs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
UPDATE repository_blobs SET
    size = (SELECT b.size FROM blobs AS b WHERE b.digest = repository_blobs.digest),
    users = (SELECT count(*) FROM manifest_blobs AS e
             WHERE e.repository_id = repository_blobs.repository_id AND e.digest = repository_blobs.digest),
    alone = (SELECT CASE WHEN b.links = 1 THEN 1 ELSE 0 END FROM blobs AS b WHERE b.digest = repository_blobs.digest);

CREATE INDEX blobs_loose ON blobs (digest) WHERE links = 0;
CREATE INDEX repository_blobs_unused ON repository_blobs (repository_id, digest) WHERE users = 0;

-- Files are unlinked in the order of their folders, so that a batch owes few of them a sync.
CREATE INDEX trash_by_digest ON trash (digest, key);
