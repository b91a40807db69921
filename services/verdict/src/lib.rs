//! From test results to verdicts, comparisons and reports.
//!
//! For: the agent (reading result files), the server (what an ended attempt leads to, and the report) and the cli.
//! May depend on: `model`, nothing else of the workspace.
//!
//! Architecture Invariant: pure. No clock, no randomness, no I/O, a fixed order: the same attempts give the same report.
//! Architecture Invariant: an attempt blamed on the host or the platform never decides a verdict.
//! Architecture Invariant: whatever a container wrote as its results, nothing here panics, hangs or grows beyond the
//! limits in [`results::Limits`].

pub mod bisect;
pub mod book;
pub mod earlier;
pub mod excerpt;
pub mod fdr;
pub mod history;
pub mod judge;
pub mod measured;
pub mod metrics;
pub mod report;
pub mod results;
pub mod sequential;
pub mod shards;
mod tally;
pub mod trust;
pub mod watch;
