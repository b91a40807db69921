//! The registry client against Debian's docker-registry on this machine's loopback, and skopeo beside it.
//! May not: reach any other machine.

mod access;
mod faults;
mod images;
mod place;
mod server;
mod tokens;
mod wire;
