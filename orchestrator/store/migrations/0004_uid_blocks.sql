-- Ranges of user ids, each of one tenant. The n-th that was given out begins
-- with id first, which belongs to the tenant itself; the rest are for plugins.
-- Ids that plugins have from before lie outside of all of them.
CREATE TABLE uid_blocks (
    n      INTEGER NOT NULL PRIMARY KEY,
    first  INTEGER NOT NULL UNIQUE,
    tenant TEXT NOT NULL
) STRICT;

CREATE INDEX uid_blocks_of_tenant ON uid_blocks (tenant, n);
