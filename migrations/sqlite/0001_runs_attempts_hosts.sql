-- Submissions, ended attempts, and hosts: what must outlive the server's process.
-- Numbers that stand for names (state, outcome, blame, policy) are listed in services/store/src/codes.rs and never change.

CREATE TABLE runs (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    file TEXT NOT NULL,
    matrix TEXT NOT NULL,
    pins TEXT NOT NULL,
    cells INTEGER NOT NULL,
    submitted_ms INTEGER NOT NULL,
    idempotency_key TEXT UNIQUE,
    body BLOB NOT NULL,
    state INTEGER NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0,
    ended_ms INTEGER,
    sequence INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    failing INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    rerun_after INTEGER
);

-- Open runs are loaded at every start.
CREATE INDEX runs_by_state ON runs (state);

-- The changes of a run's state, in the same sequence as its ended attempts: the source of its stream of events.
CREATE TABLE run_states (
    run INTEGER NOT NULL REFERENCES runs (key),
    sequence INTEGER NOT NULL,
    state INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    failing INTEGER NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;

CREATE TABLE hosts (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    incarnation INTEGER NOT NULL DEFAULT 0,
    policy INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    lost INTEGER NOT NULL DEFAULT 1,
    facts TEXT NOT NULL DEFAULT '{}',
    seen_ms INTEGER NOT NULL DEFAULT 0
);

-- The names of an attempt's cases, once per distinct set.
CREATE TABLE case_sets (
    key INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    names TEXT NOT NULL
);

-- One row per ended attempt, about 100 bytes where it passed. The primary key is the promise that an attempt
-- has one recorded outcome.
CREATE TABLE attempts (
    run INTEGER NOT NULL REFERENCES runs (key),
    cell INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    host INTEGER NOT NULL REFERENCES hosts (key),
    outcome INTEGER NOT NULL,
    code INTEGER,
    blame INTEGER,
    passed INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    failing INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    queue_ms INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    cpu_us INTEGER NOT NULL,
    peak_memory_bytes INTEGER NOT NULL,
    identity BLOB,
    case_set INTEGER REFERENCES case_sets (key),
    log_bytes INTEGER,
    rest TEXT,
    PRIMARY KEY (run, cell, ordinal)
) WITHOUT ROWID;

CREATE UNIQUE INDEX attempts_by_sequence ON attempts (run, sequence);

-- Short logs, as agents sent them; longer ones are blobs.
CREATE TABLE logs (
    run INTEGER NOT NULL,
    cell INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    stored BLOB NOT NULL,
    PRIMARY KEY (run, cell, ordinal)
);
