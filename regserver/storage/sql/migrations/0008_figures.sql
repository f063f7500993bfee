-- What lists show and sort by, kept with each image instead of counted for every page: how many tags it has, and the
-- bytes of its manifests and of the blobs that it links. Both change in the transaction that changes what they count.
ALTER TABLE repositories ADD COLUMN tag_count BIGINT NOT NULL DEFAULT 0 CHECK (tag_count >= 0);
ALTER TABLE repositories ADD COLUMN size_bytes BIGINT NOT NULL DEFAULT 0 CHECK (size_bytes >= 0);
UPDATE repositories SET
    tag_count = (SELECT count(*) FROM tags AS t WHERE t.repository_id = repositories.id),
    size_bytes = (SELECT CAST(COALESCE(sum(m.size), 0) AS BIGINT) FROM manifests AS m WHERE m.repository_id = repositories.id)
        + (SELECT CAST(COALESCE(sum(b.size), 0) AS BIGINT) FROM repository_blobs AS l JOIN blobs AS b ON b.digest = l.digest
           WHERE l.repository_id = repositories.id);
-- An image is there while it has a tag.
CREATE INDEX repositories_tagged ON repositories (registry_id, name) WHERE tag_count > 0;

-- What a dry run found may be long, and a list of collections does not show it.
ALTER TABLE gc_jobs ADD COLUMN found {TEXT};
UPDATE gc_jobs SET found = report, report = replace(substr(report, 1, 17), ',', '}') WHERE report LIKE '_"dry_run": true,%';

-- What is asked for at each start, and by whoever retires a key, is found without a look at every row.
CREATE INDEX gc_jobs_by_status ON gc_jobs (status, id);
CREATE INDEX credentials_by_previous_key ON credentials (previous_key_id) WHERE previous_key_id IS NOT NULL;
