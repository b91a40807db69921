//! From how a container ended to an outcome and whose doing it was. May not: look at output or results.

use regatta_model::container::{Ending, Limits};
use regatta_model::{Blame, Outcome};

/// An outcome as far as the container's end tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Whose doing that was.
    pub blame: Option<Blame>,
    /// For a person.
    pub detail: String,
}

/// What an ending means. A program that cannot be started counts as a shell would count it: exit status
/// 127, the test's doing, with the reason as detail.
pub fn judge(ending: &Ending, timeout_ms: u64, limits: &Limits) -> Judged {
    let (outcome, blame, detail) = match ending {
        Ending::Exited { code: 0 } => (Outcome::Exited { exit_code: 0 }, None, String::new()),
        Ending::Exited { code } => (
            Outcome::Exited { exit_code: *code },
            Some(Blame::Test),
            String::new(),
        ),
        Ending::Signaled { signal } => (
            Outcome::Signaled { signal: *signal },
            Some(Blame::Test),
            String::new(),
        ),
        Ending::TimedOut => {
            let detail = format!("it ran longer than its timeout of {}", time(timeout_ms));
            (Outcome::TimedOut, Some(Blame::Test), detail)
        }
        Ending::OutOfMemory => {
            let detail = limits.memory_bytes.map_or_else(
                || "the host's memory was not enough".to_owned(),
                |bytes| {
                    format!(
                        "it needed more than its memory limit of {} MiB",
                        bytes >> 20
                    )
                },
            );
            // Without a limit of its own, it is the host that had too little.
            let blame = if limits.memory_bytes.is_some() {
                Blame::Test
            } else {
                Blame::Host
            };
            (Outcome::OutOfMemory, Some(blame), detail)
        }
        Ending::Stopped => (Outcome::Cancelled, None, String::new()),
        Ending::CannotStart { message } => (
            Outcome::Exited { exit_code: 127 },
            Some(Blame::Test),
            message.clone(),
        ),
        Ending::LeaseEnded => {
            host("the host lost the server for longer than its lease, and ended the container")
        }
        Ending::HostFault { message } => host(message),
        Ending::ExecutorLost => host("the host's executor died"),
    };
    Judged {
        outcome,
        blame,
        detail,
    }
}

fn host(detail: &str) -> (Outcome, Option<Blame>, String) {
    (Outcome::HostLost, Some(Blame::Host), detail.to_owned())
}

fn time(ms: u64) -> String {
    if ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{ms} ms")
    }
}
