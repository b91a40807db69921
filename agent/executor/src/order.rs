//! What travels between executor, zygote and a container's first process. May not: act.

use serde::{Deserialize, Serialize};

use crate::steps::{Slot, Step};

/// One container to clone, as an executor tells a zygote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The container's number in this life of the executor; the zygote's answer repeats it.
    pub number: u64,
    /// CLONE_NEW* flags.
    pub namespaces: i32,
    /// A directory of cgroup v2 in which the container is to start.
    pub cgroup: Option<Slot>,
    /// Where the container's first process reports to.
    pub report: Slot,
    /// What the first process does.
    pub setup: Vec<Step>,
    /// What the second one, the program, does then.
    pub program: Vec<Step>,
}

/// Bytes of a zygote's answer: the order's number, the process id or 0, the error number.
pub(crate) const ANSWER: usize = 16;

/// What a zygote made of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Which order.
    pub number: u64,
    /// The process id on the host, or the error number.
    pub made: Result<i32, i32>,
}

impl Answer {
    pub(crate) fn encode(self) -> [u8; ANSWER] {
        let (pid, errno) = match self.made {
            Ok(pid) => (pid, 0),
            Err(errno) => (0, errno),
        };
        pack(self.number, pid, errno)
    }

    pub(crate) fn decode(bytes: [u8; ANSWER]) -> Self {
        let (number, pid, errno) = unpack(bytes);
        Self {
            number,
            made: if pid > 0 { Ok(pid) } else { Err(errno) },
        }
    }
}

/// Bytes of a report.
pub(crate) const REPORT: usize = 24;

/// What a container's first process tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// A step failed.
    Failed {
        /// Its place: those of the program follow those of the set-up.
        step: u32,
        /// The error number.
        errno: i32,
    },
    /// The program was started, at this time of the monotonic clock in nanoseconds.
    Started {
        /// When.
        at: u64,
    },
    /// The program ended, at this time of the monotonic clock in nanoseconds.
    Ended {
        /// The status as `wait` gives it.
        status: i32,
        /// When.
        at: u64,
    },
}

impl Report {
    pub(crate) fn encode(self) -> [u8; REPORT] {
        let (kind, value, at) = match self {
            Self::Failed { step, errno } => (2, errno, u64::from(step)),
            Self::Started { at } => (3, 0, at),
            Self::Ended { status, at } => (4, status, at),
        };
        let mut bytes = [0; REPORT];
        let (head, tail) = bytes.split_at_mut(ANSWER);
        head.copy_from_slice(&pack(at, kind, value));
        tail.fill(0);
        bytes
    }

    /// None where the bytes are no report.
    pub(crate) fn decode(bytes: &[u8; REPORT]) -> Option<Self> {
        let (at, kind, value) = unpack(*bytes.first_chunk::<ANSWER>()?);
        Some(match kind {
            2 => Self::Failed {
                step: u32::try_from(at).ok()?,
                errno: value,
            },
            3 => Self::Started { at },
            4 => Self::Ended { status: value, at },
            _ => return None,
        })
    }
}

fn pack(number: u64, first: i32, second: i32) -> [u8; ANSWER] {
    let all = u128::from(number)
        | u128::from(first.cast_unsigned()) << 64
        | u128::from(second.cast_unsigned()) << 96;
    all.to_le_bytes()
}

fn unpack(bytes: [u8; ANSWER]) -> (u64, i32, i32) {
    let all = u128::from_le_bytes(bytes);
    let word = |shift: u32| {
        u32::try_from((all >> shift) & u128::from(u32::MAX))
            .unwrap_or(0)
            .cast_signed()
    };
    (
        u64::try_from(all & u128::from(u64::MAX)).unwrap_or(0),
        word(64),
        word(96),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_reports_read_back_as_written() {
        for answer in [
            Answer {
                number: u64::MAX,
                made: Ok(i32::MAX),
            },
            Answer {
                number: 7,
                made: Err(28),
            },
        ] {
            assert_eq!(Answer::decode(answer.encode()), answer);
        }
        for report in [
            Report::Failed {
                step: 70_000,
                errno: 2,
            },
            Report::Started { at: u64::MAX },
            Report::Ended { status: 256, at: 5 },
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[9; REPORT]), None);
    }
}
