-- Facts of this home, for example its random id.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per installed plugin; doc is plugin.Installed as JSON.
CREATE TABLE plugins (
    tenant  TEXT NOT NULL,
    id      TEXT NOT NULL,
    package TEXT NOT NULL,
    digest  TEXT NOT NULL,
    doc     TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- Generations outlive the plugin: a number is never given out twice, so that
-- messages of an instance of a removed installation are never taken for those
-- of a later one.
CREATE TABLE generations (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- The supervisor's counters of one plugin, as the supervisor's own JSON.
CREATE TABLE units (
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL,
    doc    TEXT NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, id) REFERENCES plugins (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The user and group id of a plugin's containers: unique on this host, and
-- never another plugin's afterwards, so that state that was kept is not read
-- by whoever is installed next.
CREATE TABLE uids (
    uid    INTEGER NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
