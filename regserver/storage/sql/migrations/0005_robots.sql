-- More robots in a registry. name NULL: the registry's own. images: globs as JSON; NULL: every image. expires_at ends a
-- permission and deletes nothing, so the wall clock decides. updated_at NULL: not changed since it was made.
ALTER TABLE credentials ADD COLUMN name {TEXT};
ALTER TABLE credentials ADD COLUMN images {TEXT};
ALTER TABLE credentials ADD COLUMN expires_at BIGINT;
ALTER TABLE credentials ADD COLUMN updated_at BIGINT;
ALTER TABLE credentials ADD COLUMN last_used_at BIGINT;
-- What the management API shows is called by its kind. Bearer tokens drawn before are dead; they live for minutes.
UPDATE credentials SET id = 'rob_' || substr(id, 6) WHERE substr(id, 1, 5) = 'cred_';
CREATE UNIQUE INDEX credentials_own ON credentials (registry_id) WHERE name IS NULL;
