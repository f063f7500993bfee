-- Requests that may be sent again under their key. The row is made in the transaction that does what was asked, the
-- answer is added after it; status NULL: not yet, or the process has ended in between. body holds no secret. Rows go by
-- their age in epochs.
CREATE TABLE idempotency_keys (
    principal {TEXT} NOT NULL,
    key {TEXT} NOT NULL,
    fingerprint {TEXT} NOT NULL,
    epoch BIGINT NOT NULL,
    status INTEGER,
    headers {TEXT},
    body {TEXT},
    PRIMARY KEY (principal, key)
) {CLUSTERED};
CREATE INDEX idempotency_keys_by_epoch ON idempotency_keys (epoch);
