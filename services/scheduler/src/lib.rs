//! Which attempt goes to which host, and what a silent host means.
//!
//! For: the server's actor and the simulator. One function owns every decision:
//! [`Scheduler::apply`]; around it events are carried in and effects out.
//! May depend on: `model`, nothing else.
//!
//! Architecture Invariant: pure. Time is a parameter, order is fixed, nothing is read, locked or drawn by lot:
//! the same events give the same effects.
//! Architecture Invariant: a cell is never held by two hosts unless the first was declared lost, lease and drift
//! after its last sync.
//! Architecture Invariant: nothing here panics on an event that makes no sense; it has no effect.

pub mod event;

pub use event::{Again, Effect, Event, Health, HostState, Moment, Next, Policy, Work};
