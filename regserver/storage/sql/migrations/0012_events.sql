-- What happened, for those who follow it: a row in the transaction of the change itself. Ids grow in the order of the
-- commits, so who has seen one has seen all before it. No foreign key: an event outlives what it tells of. epoch is the
-- age that permits the deletion; more is JSON, the fields that only some types have.
CREATE TABLE events (
    id {ID},
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    type {TEXT} NOT NULL,
    registry_id {TEXT} NOT NULL,
    registry {TEXT} NOT NULL,
    image {TEXT},
    reference {TEXT},
    digest {TEXT},
    actor {TEXT} NOT NULL,
    request_id {TEXT} NOT NULL,
    more {TEXT}
);
