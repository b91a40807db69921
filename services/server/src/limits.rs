//! Every limit of the server by its name. May not: hold a number whose unit is not told.

use std::time::Duration;

/// Default of [`crate::Options::lease_ms`].
pub(crate) const LEASE_MS: u64 = 15_000;
/// Shortest lease: below it, a busy host would be taken for lost.
pub(crate) const LEASE_LEAST_MS: u64 = 1_000;
/// Longest lease that agents believe.
pub(crate) const LEASE_MOST_MS: u64 = 3_600_000;

/// The leader's lease, in milliseconds: how long a fleet is without a leader after one was killed.
pub(crate) const LEADER_LEASE_MS: u64 = 10_000;
/// How often the leader renews its lease.
pub(crate) const LEADER_RENEW_EVERY: Duration = Duration::from_millis(2_500);
/// How often a server that does not lead asks who does.
pub(crate) const LEADER_POLL: Duration = Duration::from_secs(1);

/// Connections at once; further ones wait in the kernel's queue.
pub(crate) const CONNECTIONS_MOST: usize = 20_000;
/// A connection on which nothing moves for so long is closed.
pub(crate) const CONNECTION_IDLE: Duration = Duration::from_mins(10);
/// Bytes that one connection buffers each way, and so of a request's head.
pub(crate) const BUFFER_MOST: usize = 64 << 10;
/// A body of which nothing comes for so long is given up.
pub(crate) const BODY_IDLE: Duration = Duration::from_mins(1);

/// Longest matrix, in bytes.
pub(crate) const MATRIX_BYTES_MOST: usize = 1 << 20;
/// Longest submission: a matrix as a JSON text, and pins.
pub(crate) const SUBMISSION_BYTES_MOST: usize = 4 << 20;
/// Longest other JSON document that is taken.
pub(crate) const DOCUMENT_BYTES_MOST: usize = 64 << 10;
/// Most different images, and most different sources of files, of one run.
pub(crate) const PINS_MOST: usize = 1024;
/// Plans of shards of one run: groups of cells whose tests are split alike. Of more, none is balanced, and none's durations are
/// kept.
pub(crate) const PLANS_MOST: usize = 1000;
/// Cells, shards not counted, of a run whose shards are balanced.
pub(crate) const PLANNED_CELLS_MOST: u64 = 10_000;
/// Cases of earlier runs that the plans of one run are made from.
pub(crate) const PLANNED_CASES_MOST: usize = 2_000_000;
/// Longest idempotency key, in bytes.
pub(crate) const IDEMPOTENCY_KEY_MOST: usize = 255;
/// Attempts that a run has at least, all cells together: the database counts a run's events in 31 bits, and reruns need
/// room.
pub(crate) const RUN_ATTEMPTS_MOST: u64 = 1 << 30;
/// Runs at once that are not over.
pub(crate) const OPEN_RUNS_MOST: usize = 10_000;

/// Runs whose regressions are traced at once.
pub(crate) const BISECTIONS_MOST: u32 = 16;
/// Pairs of values of one run between which regressions are traced.
pub(crate) const BISECT_GAPS_MOST: usize = 8;
/// Attempts that one round of a search asks for, about.
pub(crate) const BISECT_WIDTH: usize = 8;
/// How long the leader waits after a search could not go on.
pub(crate) const BISECT_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often the leader looks for runs that ended too long ago.
pub(crate) const PRUNE_EVERY: Duration = Duration::from_mins(10);
/// How often it looks for what is left of pruned runs.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often it looks for what can be packed, of runs that are over.
pub(crate) const PACK_EVERY: Duration = Duration::from_mins(1);

/// Runs of one page of a list, and the default.
pub(crate) const RUNS_PAGE_MOST: u32 = 1000;
pub(crate) const RUNS_PAGE: u32 = 100;
/// Cells of one page, and the default.
pub(crate) const CELLS_PAGE_MOST: u64 = 1000;
pub(crate) const CELLS_PAGE: u64 = 100;

/// Runs that a history asks, and the default; the newest ones.
pub(crate) const HISTORY_RUNS_MOST: u32 = 100;
pub(crate) const HISTORY_RUNS: u32 = 20;
/// Attempts that a history reads, wanted or not.
pub(crate) const HISTORY_ATTEMPTS_MOST: usize = 2_000_000;

/// Hosts that are known at once.
pub(crate) const HOSTS_MOST: usize = 20_000;
/// Places of one host.
pub(crate) const SLOTS_MOST: u32 = 4096;
/// Attempts that one host holds.
pub(crate) const HOLDING_MOST: usize = 70_000;
/// Labels of one host, and bytes of a label's name or value.
pub(crate) const LABELS_MOST: usize = 64;
pub(crate) const LABEL_BYTES_MOST: usize = 256;
/// Bytes of any other text that an agent tells of its host.
pub(crate) const FACT_BYTES_MOST: usize = 256;
/// Sentences about what a host lacks.
pub(crate) const LACKS_MOST: usize = 16;
/// By how much a host's wall clock may be off before it is told of, in milliseconds.
pub(crate) const CLOCK_OFFSET_MOST_MS: u64 = 30_000;
/// Cases of one attempt, and bytes of a case's name.
pub(crate) const CASES_MOST: usize = 200_000;
pub(crate) const CASE_BYTES_MOST: usize = 4096;
/// Bytes of the sets of cases' names that are remembered by their digests.
pub(crate) const SETS_BYTES_MOST: usize = 64 << 20;
/// Sets that one sync has looked for in the database, and how long that may take; others are asked for.
pub(crate) const SET_READS_MOST: usize = 16;
pub(crate) const SET_READS_WITHIN: Duration = Duration::from_millis(500);
/// Problems of one attempt's results, and bytes of each; bytes of an attempt's detail.
pub(crate) const PROBLEMS_MOST: usize = 100;
pub(crate) const PROBLEM_BYTES_MOST: usize = 1024;
pub(crate) const DETAIL_BYTES_MOST: usize = 4096;
/// Bytes of a path that an attempt changed or left.
pub(crate) const PATH_BYTES_MOST: usize = 1024;
/// Artifacts of one attempt.
pub(crate) const ARTIFACTS_MOST: usize = 1000;
/// Bytes of a log as stored.
pub(crate) const LOG_BYTES_MOST: u64 = 256 << 20;
/// Bytes of a log as it is read.
pub(crate) const LOG_TEXT_MOST: usize = 1 << 30;
/// Largest window of a compressed log, as the base-2 logarithm of its bytes.
pub(crate) const LOG_WINDOW_LOG_MOST: u32 = 27;
/// Bytes of one artifact.
pub(crate) const ARTIFACT_BYTES_MOST: u64 = 1 << 30;
/// Bytes of a log or an artifact from which it goes straight to a bucket; below, asking where costs more than it saves.
pub(crate) const DIRECT_BYTES_LEAST: u64 = 64 << 10;

/// Bytes of the disk that uploads leave free; a twentieth of it where that is less.
pub(crate) const DISK_FREE_LEAST: u64 = 2 << 30;
/// Reports that are made at once; further ones wait.
pub(crate) const REPORTS_MOST: usize = 4;

/// Commands that wait for the actor.
pub(crate) const COMMANDS_MOST: usize = 4096;
/// Commands that one transaction answers.
pub(crate) const BATCH_MOST: usize = 512;
/// Syncs that one transaction records of those that came while nothing could be recorded. Nobody waits for an answer to them.
pub(crate) const UNHEARD_AT_ONCE: usize = 4 * BATCH_MOST;
/// How long somebody waits for the actor before being told that the server is busy.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a commit may take until whoever waits is answered without it.
pub(crate) const COMMIT_SLOW_AFTER: Duration = Duration::from_millis(800);
/// How long the actor waits before it tries a commit that failed again.
pub(crate) const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often the scheduler is told that time passed.
pub(crate) const TICK_EVERY: Duration = Duration::from_secs(1);

/// Streams of events at once.
pub(crate) const EVENT_STREAMS_MOST: usize = 1000;
/// Events that are read at once for one stream.
pub(crate) const EVENTS_PAGE: u32 = 500;
/// Events of one stream are sent together, at least this far apart.
pub(crate) const EVENTS_EVERY: Duration = Duration::from_millis(200);
/// A stream without events says so, this often.
pub(crate) const EVENTS_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Bytes of a manifest.
pub(crate) const MANIFEST_BYTES_MOST: usize = 4 << 20;
/// Bytes of one blob of an image.
pub(crate) const BLOB_BYTES_MOST: u64 = 32 << 30;
/// Uploads of blobs at once.
pub(crate) const UPLOADS_MOST: usize = 64;
/// An upload to which nothing is added for so long is dropped.
pub(crate) const UPLOAD_IDLE: Duration = Duration::from_mins(10);
