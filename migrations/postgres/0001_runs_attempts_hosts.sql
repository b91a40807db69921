-- Submissions, ended attempts, and hosts: what must outlive the server's process.
-- Numbers that stand for names (state, outcome, blame, policy) are listed in services/store/src/codes.rs and never change.

CREATE TABLE runs (
    key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    file TEXT NOT NULL,
    matrix TEXT NOT NULL,
    pins TEXT NOT NULL,
    cells BIGINT NOT NULL,
    submitted_ms BIGINT NOT NULL,
    idempotency_key TEXT UNIQUE,
    body BYTEA NOT NULL,
    state BIGINT NOT NULL,
    cancelled BIGINT NOT NULL DEFAULT 0,
    ended_ms BIGINT,
    sequence BIGINT NOT NULL DEFAULT 0,
    settled BIGINT NOT NULL DEFAULT 0,
    failing BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    rerun_after BIGINT
);

-- Open runs are loaded at every start.
CREATE INDEX runs_by_state ON runs (state);

-- The changes of a run's state, in the same sequence as its ended attempts: the source of its stream of events.
CREATE TABLE run_states (
    run BIGINT NOT NULL REFERENCES runs (key),
    sequence BIGINT NOT NULL,
    state BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    failing BIGINT NOT NULL,
    PRIMARY KEY (run, sequence)
);

CREATE TABLE hosts (
    key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    incarnation BIGINT NOT NULL DEFAULT 0,
    policy BIGINT NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    lost BIGINT NOT NULL DEFAULT 1,
    facts TEXT NOT NULL DEFAULT '{}',
    seen_ms BIGINT NOT NULL DEFAULT 0
);

-- The names of an attempt's cases, once per distinct set.
CREATE TABLE case_sets (
    key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE,
    names TEXT NOT NULL
);

-- One row per ended attempt, about 100 bytes where it passed. The primary key is the promise that an attempt
-- has one recorded outcome.
CREATE TABLE attempts (
    run BIGINT NOT NULL REFERENCES runs (key),
    cell BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    host BIGINT NOT NULL REFERENCES hosts (key),
    outcome BIGINT NOT NULL,
    code BIGINT,
    blame BIGINT,
    passed BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    failing BIGINT NOT NULL,
    wall_ms BIGINT NOT NULL,
    queue_ms BIGINT NOT NULL,
    start_us BIGINT NOT NULL,
    cpu_us BIGINT NOT NULL,
    peak_memory_bytes BIGINT NOT NULL,
    identity BYTEA,
    case_set BIGINT REFERENCES case_sets (key),
    log_bytes BIGINT,
    rest TEXT,
    PRIMARY KEY (run, cell, ordinal)
);

CREATE UNIQUE INDEX attempts_by_sequence ON attempts (run, sequence);

-- Short logs, as agents sent them; longer ones are blobs.
CREATE TABLE logs (
    run BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    stored BYTEA NOT NULL,
    PRIMARY KEY (run, cell, ordinal)
);
