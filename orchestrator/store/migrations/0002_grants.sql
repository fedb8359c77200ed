-- What people let a plugin do. Times are RFC 3339 in UTC; '' never ends.
CREATE TABLE grants (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    target     TEXT NOT NULL,
    value      TEXT NOT NULL,
    origin     TEXT NOT NULL,
    actor      TEXT NOT NULL,
    granted_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id, kind, target),
    FOREIGN KEY (tenant, id) REFERENCES plugins (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Requests that a person refused, so that they are not asked again.
CREATE TABLE denials (
    tenant    TEXT NOT NULL,
    id        TEXT NOT NULL,
    request   TEXT NOT NULL,
    actor     TEXT NOT NULL,
    denied_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id, request),
    FOREIGN KEY (tenant, id) REFERENCES plugins (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The review that the installed version was accepted with: the digest of what
-- was shown, and who agreed.
CREATE TABLE reviews (
    tenant      TEXT NOT NULL,
    id          TEXT NOT NULL,
    digest      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    accepted_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, id) REFERENCES plugins (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
