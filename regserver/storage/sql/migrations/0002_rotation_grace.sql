-- A rotation may leave the earlier password in force for a while: previous_until in milliseconds. It is a permission and
-- not an age that deletes, so the wall clock decides.
ALTER TABLE credentials ADD COLUMN previous_version BIGINT;
ALTER TABLE credentials ADD COLUMN previous_key_id {TEXT};
ALTER TABLE credentials ADD COLUMN previous_claims {TEXT};
ALTER TABLE credentials ADD COLUMN previous_until BIGINT;
