//! From what tools write as results to what a report says. May not: run anything; everything here is pure.

mod chance;
mod compared;
mod dialects;
mod grid;
mod history;
mod judge;
mod levels;
mod measured;
mod plans;
mod report;
mod results;
mod sequential;
mod shards;
mod stats;
mod trust;
mod untold;
