//! From what tools write as results to what a report says. May not: run anything; everything here is pure.

mod dialects;
mod history;
mod judge;
mod report;
mod results;
mod shards;
mod stats;
mod trust;
mod untold;
