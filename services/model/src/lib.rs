//! The words of Regatta as types.
//!
//! For: every other crate. The matrix language, cells, ids, outcomes, results, reports, the messages
//! between server and agent, and what an executor is asked to run.
//! May depend on: no other crate of the workspace, and no I/O: everything here is a value.
//!
//! Architecture Invariant: a value that was parsed is valid; whoever holds a `Matrix`, a `Digest` or
//! a `HostName` need not check it again.
//! Architecture Invariant: nothing in here panics, whatever text or bytes it is given.

pub mod case;
pub mod container;
pub mod digest;
pub mod history;
pub mod ids;
pub mod lasted;
pub mod log;
pub mod matrix;
pub mod metric;
pub mod next;
pub mod outcome;
pub mod plan;
pub mod problem;
pub mod report;
pub mod resources;
pub mod run;
pub mod upload;
pub mod wait;
pub mod wire;

pub use digest::Digest;
pub use ids::{AttemptId, CellNumber, HostName, Incarnation, Ordinal, Owner, RunId};
pub use outcome::{Blame, Outcome};
pub use resources::Resources;
