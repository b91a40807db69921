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
) WITH (fillfactor = 70);

-- Open runs are loaded at every start.
CREATE INDEX runs_open ON runs (key) WHERE state < 2;

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

-- One row per ended attempt, less than 200 bytes with its indexes where it passed; columns stand by their width, so
-- that nothing is lost to alignment. The primary key is the promise that an attempt has one recorded outcome.
-- Partitioned by ranges of runs, which are ranges of time: old runs go by dropping partitions. The writer makes each
-- partition with the first run of its range (services/store/src/postgres/partition.rs).
CREATE TABLE attempts (
    cpu_us BIGINT NOT NULL,
    peak_memory_bytes BIGINT NOT NULL,
    run INTEGER NOT NULL,
    cell INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    host INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    failing INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    queue_ms INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    case_set INTEGER,
    code INTEGER,
    outcome SMALLINT NOT NULL,
    blame SMALLINT,
    passed BOOLEAN NOT NULL,
    identity BYTEA,
    log_bytes BIGINT,
    rest TEXT,
    PRIMARY KEY (run, cell, ordinal)
) PARTITION BY RANGE (run);

CREATE UNIQUE INDEX attempts_by_sequence ON attempts (run, sequence);

-- Short logs, as agents sent them; longer ones are blobs. Partitioned as the attempts are.
CREATE TABLE logs (
    run INTEGER NOT NULL,
    cell INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    stored BYTEA NOT NULL,
    PRIMARY KEY (run, cell, ordinal)
) PARTITION BY RANGE (run);
