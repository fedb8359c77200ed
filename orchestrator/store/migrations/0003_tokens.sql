-- Tokens of callers over TLS, by the SHA-256 of what the caller sends. A token
-- of access admin belongs to no tenant. Times are RFC 3339 in UTC; '' is never.
CREATE TABLE tokens (
    id         TEXT NOT NULL PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    name       TEXT NOT NULL,
    access     TEXT NOT NULL CHECK (access IN ('admin', 'call')),
    tenant     TEXT NOT NULL CHECK ((tenant = '') = (access = 'admin')),
    created_by TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
