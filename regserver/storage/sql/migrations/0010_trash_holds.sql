-- Who reads files that a copied catalog names: while a row lives, nothing in the trash is unlinked. A row lives for some
-- epochs after it was last renewed, so that a backup which was killed holds nothing up for long.
CREATE TABLE trash_holds (
    id {TEXT} PRIMARY KEY,
    epoch BIGINT NOT NULL
) {CLUSTERED};
