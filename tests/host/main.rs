//! What a container may see and do, and that nothing of it is left: every row of the table in
//! `ops/docs/isolation.md` is a test of the same name here. Containers are made by the real executor,
//! over its socket.

mod kit;
mod leftovers;
mod limits;
mod links;
mod namespaces;
mod places;
mod powers;
mod process;
mod table;
mod v2;
