//! The command as people use it on one machine: from a matrix file to a report, nothing started before.

mod exec;
mod history;
mod run;
