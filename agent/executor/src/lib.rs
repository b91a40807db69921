//! (to be written)

pub mod capabilities;
pub mod cgroup;
pub mod changes;
pub mod seccomp;
