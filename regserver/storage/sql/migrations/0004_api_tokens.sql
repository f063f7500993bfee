-- Tokens of the management API. hash: SHA-256 of the token in hex; the token itself is nowhere. scopes: joined by commas.
-- A scope may outlive its registry: ids never come again, so it then permits nothing.
CREATE TABLE api_tokens (
    id {TEXT} PRIMARY KEY,
    name {TEXT} NOT NULL,
    scopes {TEXT} NOT NULL,
    hash {TEXT} NOT NULL UNIQUE,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);
