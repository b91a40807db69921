//! Images: the store, archives, and unpacking whatever comes. Each test has a store of its own and ends
//! by looking at what is there. May not: need a network.

mod crash;
mod exchange;
mod hostile;
mod keeping;
mod merge;
mod place;
mod tars;
mod verified;
