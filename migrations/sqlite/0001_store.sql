-- The store of a single node. A later migration adds, and never changes the meaning of what is here, so that an older
-- version of the node runs on it again after a roll-back. Times are Unix seconds.

CREATE TABLE head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO head (one, revision) VALUES (1, 0);

-- AUTOINCREMENT: an id that was used again would inherit a beat that waits to be written.
CREATE TABLE instances (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    service          TEXT    NOT NULL,
    instance         TEXT    NOT NULL,
    endpoint         TEXT    NOT NULL,
    health_endpoint  TEXT    NOT NULL,
    metadata         TEXT    NOT NULL,
    ttl              INTEGER NOT NULL,
    session          TEXT,
    status           TEXT    NOT NULL,
    output           TEXT,
    operator_drain   TEXT,
    session_drain    TEXT,
    registered_at    REAL    NOT NULL,
    observed_address TEXT,
    revision         INTEGER NOT NULL,
    UNIQUE (service, instance)
) STRICT;

CREATE TABLE leases (
    id      INTEGER PRIMARY KEY,
    beat    INTEGER NOT NULL,
    beat_at REAL    NOT NULL
) STRICT;

CREATE TABLE changes (
    revision INTEGER PRIMARY KEY,
    tag      INTEGER NOT NULL,
    at       REAL    NOT NULL,
    kind     TEXT    NOT NULL,
    service  TEXT    NOT NULL,
    instance TEXT    NOT NULL,
    entry_id INTEGER NOT NULL,
    reason   TEXT,
    actor    TEXT,
    body     TEXT    NOT NULL
) STRICT;
CREATE INDEX changes_expired ON changes (entry_id) WHERE kind = 'expire';
CREATE INDEX changes_gone ON changes (revision) WHERE kind IN ('deregister', 'expire');

CREATE TABLE ended_sessions (
    service  TEXT NOT NULL,
    instance TEXT NOT NULL,
    session  TEXT NOT NULL,
    at       REAL NOT NULL,
    PRIMARY KEY (service, instance, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_sessions_at ON ended_sessions (at);
