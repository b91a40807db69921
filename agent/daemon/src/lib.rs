//! The agent on a host: it holds attempts for a server, makes them ready, has the executor run them,
//! and keeps their outcomes until they are recorded.
//!
//! For: the command line (`regatta agent`, `run`, `exec`, `image build`, `doctor`).
//! May depend on: executor (its client only), image, verdict, model. It is the home of reqwest on a host.
//!
//! Architecture Invariant: [`reconcile`] decides what is held, started and stopped, and does no I/O;
//! everything else only carries things out.
//! Architecture Invariant: an outcome is on disk before the server hears of it, and stays there until the
//! server acknowledged it.
//! Architecture Invariant: a directory that holds a set-up layer or a `files` layer is whole; it is
//! made elsewhere and renamed into place.

mod agent;
mod ahead;
mod attempt;
pub mod builder;
mod canary;
pub mod collect;
mod conclude;
mod crash;
pub mod doctor;
pub mod exec;
pub mod executor;
pub mod facts;
mod failure;
mod files;
mod host;
pub mod identity;
pub mod kernel_log;
pub mod layers;
pub mod layout;
pub mod link;
pub mod measure;
pub mod mould;
pub mod observe;
pub mod outbox;
mod outbox_writer;
pub mod outcome;
pub mod pace;
mod prepare;
pub mod reconcile;
pub mod records;
pub mod server;
mod setup;
mod sync;
pub mod tree;
mod uploads;

pub use agent::{Agent, Error, Options};
pub use layout::Layout;
