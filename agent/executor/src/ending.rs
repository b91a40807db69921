//! What a container's end is called, from what was heard of it. May not: ask anybody.

use nix::errno::Errno;
use nix::libc;
use regatta_model::container::Ending;

use crate::steps::{Fault, Step};
use crate::sys::process::Exit;

/// How long a container may take from its order to its program, in milliseconds.
pub(crate) const SETUP_MOST: u64 = 60_000;

/// Why Regatta ends a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time is up.
    TimedOut,
    /// Somebody asked.
    Stopped,
    /// Its lease ended.
    LeaseEnded,
    /// It wrote more than its disk limit.
    DiskFull,
    /// Its set-up took too long.
    SetupHangs,
}

/// What is known at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts<'a> {
    /// What kept it from being cloned.
    pub trouble: Option<&'a str>,
    /// Why Regatta ended it.
    pub cause: Option<Cause>,
    /// The step that failed, and its error number.
    pub failed: Option<(u32, i32)>,
    /// The program's status, as `wait` gives it.
    pub status: Option<i32>,
    /// The end of the container's first process.
    pub exit: Option<Exit>,
    /// How many processes the kernel ended for the memory limit.
    pub oom_kills: u64,
}

/// The end's name.
pub(crate) fn decide(facts: &Facts<'_>, steps: &[Step]) -> Ending {
    if let Some(message) = facts.trouble {
        return Ending::HostFault {
            message: message.to_owned(),
        };
    }
    match facts.cause {
        Some(Cause::TimedOut) => return Ending::TimedOut,
        Some(Cause::Stopped) => return Ending::Stopped,
        Some(Cause::LeaseEnded) => return Ending::LeaseEnded,
        Some(Cause::DiskFull) => {
            return Ending::Signaled {
                signal: libc::SIGXFSZ,
            };
        }
        Some(Cause::SetupHangs) => {
            let seconds = SETUP_MOST / 1_000;
            let message = format!("its set-up took longer than {seconds} seconds");
            return Ending::HostFault { message };
        }
        None => {}
    }
    if let Some((step, errno)) = facts.failed {
        return step_failed(steps, step, errno);
    }
    let Some(status) = facts.status else {
        return lost_init(facts);
    };
    match (status & 0x7f, (status >> 8) & 0xff) {
        (0, 0) => Ending::Exited { code: 0 },
        _ if facts.oom_kills > 0 => Ending::OutOfMemory,
        (0, code) => Ending::Exited { code },
        (signal, _) => Ending::Signaled { signal },
    }
}

fn step_failed(steps: &[Step], step: u32, errno: i32) -> Ending {
    let error = Errno::from_raw(errno);
    let why = error.desc();
    let place = usize::try_from(step).unwrap_or(usize::MAX);
    match steps.get(place) {
        Some(step) if step.fault(error) == Fault::Container => Ending::CannotStart {
            message: format!("cannot {step}: {why}"),
        },
        Some(step) => Ending::HostFault {
            message: format!("cannot {step}: {why}"),
        },
        None => Ending::HostFault {
            message: format!("cannot clone the program: {why}"),
        },
    }
}

/// Its first process ended without a word about the program.
fn lost_init(facts: &Facts<'_>) -> Ending {
    if facts.oom_kills > 0 {
        return Ending::OutOfMemory;
    }
    let message = match facts.exit {
        Some(Exit::Signal(signal)) => {
            format!("signal {signal}, sent from outside, ended the container's first process")
        }
        Some(Exit::Code(_)) | None => "the container's first process went silent".to_owned(),
    };
    Ending::HostFault { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Facts<'static> = Facts {
        trouble: None,
        cause: None,
        failed: None,
        status: None,
        exit: None,
        oom_kills: 0,
    };

    fn fault(steps: &[Step], facts: &Facts<'_>) -> String {
        match decide(facts, steps) {
            Ending::HostFault { message } => format!("host: {message}"),
            Ending::CannotStart { message } => format!("container: {message}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_programs_own_end_is_told_as_it_was() {
        let status = |status| {
            decide(
                &Facts {
                    status: Some(status),
                    ..SILENT
                },
                &[],
            )
        };
        assert_eq!(status(0), Ending::Exited { code: 0 });
        assert_eq!(status(0x700), Ending::Exited { code: 7 });
        assert_eq!(status(9), Ending::Signaled { signal: 9 });
        assert_eq!(status(0x8b), Ending::Signaled { signal: 11 });
        assert_eq!(status(64), Ending::Signaled { signal: 64 });
    }

    #[test]
    fn memory_counts_unless_the_program_came_through() {
        let status = |status| {
            decide(
                &Facts {
                    status,
                    oom_kills: 1,
                    ..SILENT
                },
                &[],
            )
        };
        assert_eq!(status(Some(0)), Ending::Exited { code: 0 });
        assert_eq!(status(Some(9)), Ending::OutOfMemory);
        assert_eq!(status(Some(0x100)), Ending::OutOfMemory);
        assert_eq!(status(None), Ending::OutOfMemory);
    }

    #[test]
    fn what_regatta_ended_is_not_the_programs_end() {
        let cause = |cause| {
            decide(
                &Facts {
                    cause: Some(cause),
                    status: Some(9),
                    ..SILENT
                },
                &[],
            )
        };
        assert_eq!(cause(Cause::TimedOut), Ending::TimedOut);
        assert_eq!(cause(Cause::Stopped), Ending::Stopped);
        assert_eq!(cause(Cause::LeaseEnded), Ending::LeaseEnded);
        assert_eq!(cause(Cause::DiskFull), Ending::Signaled { signal: 25 });
    }

    #[test]
    fn the_failed_step_tells_whose_fault_it_is() {
        let steps = [
            Step::Hostname("box".to_owned()),
            Step::ChangeDirectory("/src".to_owned()),
        ];
        let failed = |step| {
            fault(
                &steps,
                &Facts {
                    failed: Some((step, 2)),
                    ..SILENT
                },
            )
        };
        assert_eq!(
            failed(0),
            "host: cannot set the host name \"box\": No such file or directory"
        );
        assert_eq!(
            failed(1),
            "container: cannot change to the directory \"/src\": No such file or directory"
        );
        assert_eq!(
            failed(2),
            "host: cannot clone the program: No such file or directory"
        );
        let killed = Facts {
            exit: Some(Exit::Signal(9)),
            ..SILENT
        };
        assert!(fault(&steps, &killed).starts_with("host: signal 9"));
    }
}
