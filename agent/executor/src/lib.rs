//! (to be written)

pub mod capabilities;
pub mod seccomp;
