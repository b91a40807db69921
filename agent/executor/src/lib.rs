//! Makes containers on order: a root process of its own, with a Unix socket and nothing else.
//!
//! For: `regatta executor` ([`serve`]) and whoever orders containers ([`Client`]).
//! May depend on: the model's container types. The only crate with `nix` and with unsafe code, which is
//! confined to the modules below `sys` and named at each place.
//!
//! Architecture Invariant: what happens between clone and exec is data, a list of [`steps::Step`]s that [`plan`] writes
//! without touching the kernel, so that it can be printed and compared without root.
//! Architecture Invariant: the executor has one thread and waits in one place; zygotes clone, containers run.
//! Architecture Invariant: no container outlives its executor, and an executor answers nobody before it has
//! ended what a former one left.
//! Architecture Invariant: nothing that a client or a container sends can panic it or make it grow without bound.

pub mod capabilities;
pub mod cgroup;
pub mod changes;
mod child;
mod client;
mod connection;
mod container;
mod disk;
mod doctor;
mod ending;
mod error;
mod host;
mod lifecycle;
mod mounting;
mod order;
mod output;
pub mod plan;
mod prepare;
mod record;
mod requests;
mod seal;
pub mod seccomp;
mod serve;
mod server;
pub mod steps;
mod surroundings;
mod sys;
mod target;
mod token;
mod trash;
mod users;
mod valid;
mod writable;
mod zygote;

pub use client::{About, Client};
pub use doctor::{Check, doctor};
pub use error::Error;
pub use serve::{Options, serve};
pub use sys::memory::one_heap;
