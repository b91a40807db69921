//! What the suites share: the real command, data directories of their own, servers and agents as processes, small
//! images, and the count of what a host has that nothing may leak.
//! May not: replace any part of the product by a stand-in.

pub mod busybox;
pub mod command;
pub mod leaks;
pub mod network;
pub mod postgres;
pub mod process;

use std::time::{Duration, Instant};

/// Tests that make containers are run by root.
///
/// # Panics
/// When the test does not run as root: with the command that mends it.
pub fn need_root() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    assert!(
        uid.split_whitespace().nth(1) == Some("0"),
        "this test makes containers and must run as root: sudo ops/test"
    );
}

/// Waits for a condition by asking, for `bound` at most.
///
/// # Panics
/// When the bound passes first; it names what was waited for.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + bound;
    while !condition() {
        assert!(
            Instant::now() < end,
            "waited {bound:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
