//! The kernel's calls that no safe library offers, each as a small function with an error number.
//! May not: decide anything, or keep state.

pub(crate) mod credentials;
pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
