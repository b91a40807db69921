//! SQL that both databases understand and that is long. May not: write.

pub(crate) const HEAD: &str = "SELECT id, name, state, submitted_ms, ended_ms, cells, settled, failing, attempts, sequence, \
     cancelled, rerun_after, deep, bisecting FROM runs ";

pub(crate) const RECORD: &str = "SELECT id, name, state, submitted_ms, ended_ms, cells, settled, failing, attempts, sequence, \
     cancelled, rerun_after, deep, bisecting, file, matrix, pins FROM runs ";

// Columns are as narrow as their values allow where there may be millions of them; here all numbers are wide.
pub(crate) const ATTEMPT: &str = "SELECT CAST(a.cell AS BIGINT) AS cell, CAST(a.ordinal AS BIGINT) AS ordinal, \
     CAST(a.sequence AS BIGINT) AS sequence, h.name AS host, CAST(a.outcome AS BIGINT) AS outcome, \
     CAST(a.code AS BIGINT) AS code, CAST(a.blame AS BIGINT) AS blame, \
     CAST(CAST(a.passed AS INTEGER) AS BIGINT) AS passed, CAST(a.settled AS BIGINT) AS settled, \
     CAST(a.failing AS BIGINT) AS failing, CAST(a.wall_ms AS BIGINT) AS wall_ms, \
     CAST(a.queue_ms AS BIGINT) AS queue_ms, CAST(a.start_us AS BIGINT) AS start_us, a.cpu_us, a.peak_memory_bytes, \
     a.identity, CAST(a.case_set AS BIGINT) AS case_set, a.log_bytes, a.rest \
     FROM attempts a JOIN hosts h ON h.key = a.host WHERE a.run = ";

pub(crate) const SET: &str = "SELECT digest, names FROM case_sets WHERE key = $1";
pub(crate) const SET_BY_DIGEST: &str = "SELECT digest, names FROM case_sets WHERE digest = $1";

pub(crate) const EVENTS: &str = "SELECT CAST(a.sequence AS BIGINT) AS sequence, CAST(a.settled AS BIGINT) AS settled, \
     CAST(a.failing AS BIGINT) AS failing, CAST(NULL AS BIGINT) AS state, CAST(a.cell AS BIGINT) AS cell, \
     CAST(a.ordinal AS BIGINT) AS ordinal, h.name AS host, CAST(a.outcome AS BIGINT) AS outcome, \
     CAST(a.code AS BIGINT) AS code, CAST(CAST(a.passed AS INTEGER) AS BIGINT) AS passed \
     FROM attempts a JOIN hosts h ON h.key = a.host WHERE a.run = $1 AND a.sequence > $2 \
     UNION ALL \
     SELECT sequence, settled, failing, state, CAST(0 AS BIGINT), CAST(0 AS BIGINT), '', CAST(0 AS BIGINT), \
     CAST(NULL AS BIGINT), CAST(0 AS BIGINT) FROM run_states WHERE run = $1 AND sequence > $2 ORDER BY 1 LIMIT $3";
