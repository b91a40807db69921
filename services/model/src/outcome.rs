//! How an attempt ended, and whose doing that was. May not: guess blame from text.

use serde::{Deserialize, Serialize};

/// The observed end of an attempt.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The test's process ended by itself.
    Exited {
        /// Its exit status, 0 to 255.
        exit_code: i32,
    },
    /// A signal ended the test's process, and neither Regatta nor the memory limit had sent it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The time limit ended it.
    TimedOut,
    /// The memory limit ended it.
    OutOfMemory,
    /// Somebody cancelled the run, or the cell was no longer wanted.
    Cancelled,
    /// The image could not be had or made into a container.
    ImageFailed,
    /// The matrix's set-up failed, so that the test never began.
    SetupFailed,
    /// The host, its agent or its executor went away, or could not do its work.
    HostLost,
}

/// Whose doing an outcome is.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// What is tested, or the matrix that says how.
    Test,
    /// The host that ran it.
    Host,
    /// Regatta itself, or a thing all hosts share (a registry, the network).
    Platform,
}

impl Outcome {
    /// The outcome's name in reports and metrics, from a closed set.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::Cancelled => "cancelled",
            Self::ImageFailed => "image_failed",
            Self::SetupFailed => "setup_failed",
            Self::HostLost => "host_lost",
        }
    }

    /// Every name that [`Outcome::name`] gives.
    pub const NAMES: [&'static str; 8] = [
        "exited",
        "signaled",
        "timed_out",
        "out_of_memory",
        "cancelled",
        "image_failed",
        "setup_failed",
        "host_lost",
    ];

    /// The exit status, where there is one.
    pub const fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited { exit_code } => Some(exit_code),
            _ => None,
        }
    }

    /// The signal's number, where there is one.
    pub const fn signal(self) -> Option<i32> {
        match self {
            Self::Signaled { signal } => Some(signal),
            _ => None,
        }
    }
}

impl Blame {
    /// The name in reports and metrics, from a closed set.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Host => "host",
            Self::Platform => "platform",
        }
    }
}
