-- Who is signed in to the console. id: SHA-256 of the browser's cookie in hex; the cookie itself is nowhere. credential: what
-- the sign-in proved, an API token's id or the administrator's fingerprint; it is looked at again with every request.
CREATE TABLE console_sessions (
    id {TEXT} PRIMARY KEY,
    kind {TEXT} NOT NULL,
    credential {TEXT} NOT NULL,
    expires_at BIGINT NOT NULL
) {CLUSTERED};
CREATE INDEX console_sessions_by_end ON console_sessions (expires_at);
