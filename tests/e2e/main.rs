//! The command as people use it on one machine: from a matrix file to a report, nothing started before.

mod bisect;
mod commits;
mod deep;
mod exec;
mod history;
mod metrics;
mod page;
mod run;
mod shards;
mod traced;
