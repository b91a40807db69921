//! One container from its order to its end: what was heard of it, why it is to end, and what that makes of
//! it. May not: wait; every call returns at once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use regatta_model::container::{ContainerSpec, Ended};
use regatta_model::log::Stream;

use crate::cgroup::Cgroup;
use crate::changes;
use crate::ending::{self, Cause, Facts, SETUP_MOST};
use crate::order::{REPORT, Report};
use crate::output::Output;
use crate::prepare::Prepared;
use crate::record::ended_by;
use crate::steps::Step;
use crate::sys::process::{self, Exit};
use crate::target;
use crate::users::Range;
use crate::writable::Upper;

/// How much of one pipe is read before others have their turn.
const READS_AT_ONCE: usize = 4;
/// How much is read from a pipe of a container that has ended: more than any pipe holds.
const READS_AT_END: usize = 64;
/// What Regatta itself puts into every container.
const OWN_PLACES: [&str; 6] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
];
const MILLISECOND: u64 = 1_000_000;

/// Where a pipe stands after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More may come.
    Open,
    /// Nobody writes to it any more.
    Closed,
}

/// A container that lives.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub init: Option<OwnedFd>,
    pub report: OwnedFd,
    pub out: OwnedFd,
    pub err: OwnedFd,
    pub cgroup: Cgroup,
    pub range: Option<Range>,
    pub upper: Upper,
    layers: Vec<PathBuf>,
    declared: Vec<String>,
    steps: Vec<Step>,
    output: Output,
    timeout_ms: u64,
    grace_ms: u64,
    ordered: u64,
    started: Option<u64>,
    status: Option<(i32, u64)>,
    failed: Option<(u32, i32)>,
    exit: Option<Exit>,
    /// What the zygote could not do.
    trouble: Option<String>,
    cause: Option<Cause>,
    /// When SIGKILL follows SIGTERM.
    kill_at: Option<u64>,
    lease_ends: Option<u64>,
}

impl Container {
    /// A container whose order goes out at `ordered`.
    pub(crate) fn new(
        spec: &ContainerSpec,
        prepared: Prepared,
        output: Output,
        ordered: u64,
    ) -> Self {
        let mut declared: Vec<String> = spec
            .mounts
            .iter()
            .map(|mount| mount.target.clone())
            .collect();
        declared.extend(OWN_PLACES.map(str::to_owned));
        Self {
            id: spec.id.clone(),
            init: None,
            report: prepared.report,
            out: prepared.out,
            err: prepared.err,
            cgroup: prepared.cgroup,
            range: prepared.range,
            upper: prepared.writable,
            layers: spec.layers.clone(),
            declared,
            steps: prepared.steps,
            output,
            timeout_ms: spec.timeout_ms,
            grace_ms: spec.grace_ms,
            ordered,
            started: None,
            status: None,
            failed: None,
            exit: None,
            trouble: None,
            cause: None,
            kill_at: None,
            lease_ends: spec.lease_ms.map(|lease| later(ordered, lease)),
        }
    }

    /// Its first process is there. Ends it at once if that was wanted meanwhile.
    pub(crate) fn set_init(&mut self, init: OwnedFd) {
        self.init = Some(init);
        if self.cause.is_some() {
            self.kill();
        }
    }

    /// It could not be cloned.
    pub(crate) fn set_trouble(&mut self, message: String) {
        self.trouble = Some(message);
    }

    /// Reads what its first process reports.
    pub(crate) fn read_report(&mut self) -> Flow {
        loop {
            let mut bytes = [0; REPORT];
            match nix::unistd::read(&self.report, &mut bytes) {
                Ok(REPORT) => self.hear(Report::decode(&bytes)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Flow::Open,
                Ok(_) | Err(_) => return Flow::Closed,
            }
        }
    }

    fn hear(&mut self, report: Option<Report>) {
        match report {
            None => {}
            Some(Report::Failed { step, errno }) => self.failed = Some((step, errno)),
            Some(Report::Started { at }) => self.started = Some(at),
            Some(Report::Ended { status, at }) => self.status = Some((status, at)),
        }
    }

    /// Reads its output. `buffer` is scratch space.
    pub(crate) fn read_output(&mut self, stream: Stream, buffer: &mut [u8]) -> Flow {
        self.read_some(stream, buffer, READS_AT_ONCE)
    }

    fn read_some(&mut self, stream: Stream, buffer: &mut [u8], times: usize) -> Flow {
        for _ in 0..times {
            let pipe = if stream == Stream::Out {
                &self.out
            } else {
                &self.err
            };
            match nix::unistd::read(pipe, buffer) {
                Ok(0) => return Flow::Closed,
                Ok(length) => {
                    let micros = self.micros(process::monotonic_ns());
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.output.take(micros, stream, bytes);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Flow::Open,
                Err(_) => return Flow::Closed,
            }
        }
        Flow::Open
    }

    /// Microseconds since the program's start.
    fn micros(&self, now: u64) -> u64 {
        self.started
            .map_or(0, |started| now.saturating_sub(started) / 1_000)
    }

    /// Ends it, unless its program has ended by itself or it is being ended already.
    pub(crate) fn end(&mut self, cause: Cause) {
        if self.status.is_some() || self.failed.is_some() {
            return;
        }
        // The first cause is the true one; a later one may only be quicker.
        let cause = *self.cause.get_or_insert(cause);
        let gently = cause == Cause::TimedOut && self.kill_at.is_none() && self.grace_ms > 0;
        if gently && self.signal(libc::SIGTERM) {
            self.kill_at = Some(later(process::monotonic_ns(), self.grace_ms));
        } else {
            self.kill();
        }
    }

    /// Ends it at once, whatever it was doing.
    pub(crate) fn end_now(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
        self.kill();
    }

    fn kill(&mut self) {
        self.kill_at = None;
        if let Some(init) = &self.init {
            let _gone = process::signal(init.as_fd(), libc::SIGKILL);
        }
        let _empty = self.cgroup.kill();
    }

    /// Sends a signal to its program; whether it could be sent.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        self.started.is_some()
            && self
                .init
                .as_ref()
                .is_some_and(|init| process::order_signal(init.as_fd(), signal).is_ok())
    }

    /// Lets it run until so long after `now`, if it needs a lease.
    pub(crate) fn renew(&mut self, now: u64, lease_ms: u64) {
        if self.lease_ends.is_some() {
            self.lease_ends = Some(later(now, lease_ms));
        }
    }

    /// When it must be looked at next, on the monotonic clock in nanoseconds.
    pub(crate) fn due(&self) -> Option<u64> {
        let limit = match (self.cause, self.started) {
            (Some(_), _) => None,
            (None, Some(started)) => Some(later(started, self.timeout_ms)),
            (None, None) => Some(later(self.ordered, SETUP_MOST)),
        };
        let lease = self.lease_ends.filter(|_| self.cause.is_none());
        [limit, self.kill_at, lease].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn look(&mut self, now: u64) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
        if self.cause.is_some() || self.due().is_none_or(|due| due > now) {
            return;
        }
        if self.lease_ends.is_some_and(|end| end <= now) {
            self.end(Cause::LeaseEnded);
        } else if self.started.is_some() {
            self.end(Cause::TimedOut);
        } else {
            self.end(Cause::SetupHangs);
        }
    }

    /// Takes the end of its first process; whether it has ended, and with it all of the container.
    pub(crate) fn take_exit(&mut self) -> bool {
        let Some(init) = &self.init else { return false };
        match process::take_exit(init.as_fd()) {
            Ok(None) => false,
            Ok(Some(exit)) => {
                self.exit = Some(exit);
                true
            }
            // Not our child any more: it cannot come back.
            Err(_) => true,
        }
    }

    /// What it was, once nothing of it runs any more. `buffer` is scratch space.
    pub(crate) fn finish(mut self, buffer: &mut [u8]) -> Finished {
        let _closed = self.read_report();
        for stream in [Stream::Out, Stream::Err] {
            let _closed = self.read_some(stream, buffer, READS_AT_END);
        }
        let usage = self.cgroup.usage();
        let now = process::monotonic_ns();
        if self.cause == Some(Cause::DiskFull) {
            let micros = self.micros(now);
            self.output.note(
                micros,
                "regatta: ended, since it wrote more than its disk limit (limits.disk)\n",
            );
        }
        let facts = Facts {
            trouble: self.trouble.as_deref(),
            cause: self.cause,
            failed: self.failed,
            status: self.status.map(|(status, _)| status),
            exit: self.exit,
            oom_kills: usage.oom_kills,
        };
        let ending = ending::decide(&facts, &self.steps);
        let end = self.status.map_or(now, |(_, at)| at);
        let micros = self.micros(now);
        for target in &self.upper.tidy {
            target::remove_empty(self.upper.directory.as_fd(), target);
        }
        let changes = changes::list(self.upper.directory.as_fd(), &self.layers, &self.declared)
            .unwrap_or_default();
        let written = self.output.finish(micros);
        let ended = Ended {
            start_us: self
                .started
                .map_or(0, |at| at.saturating_sub(self.ordered) / 1_000),
            wall_ms: self
                .started
                .map_or(0, |at| end.saturating_sub(at) / MILLISECOND),
            cpu_us: usage.cpu_us,
            peak_memory_bytes: usage.peak_memory_bytes,
            oom_kills: usage.oom_kills,
            output_bytes: written.total,
            output_dropped: written.dropped,
            changed: changes.paths,
            changed_more: changes.more,
            ..ended_by(&self.id, ending)
        };
        Finished {
            ended,
            cgroup: self.cgroup,
            range: self.range,
            discard: self.upper.discard,
        }
    }
}

/// A container that is no more, and what is left to clear away.
#[derive(Debug)]
pub(crate) struct Finished {
    pub ended: Ended,
    pub cgroup: Cgroup,
    pub range: Option<Range>,
    pub discard: Vec<PathBuf>,
}

fn later(moment: u64, milliseconds: u64) -> u64 {
    moment.saturating_add(milliseconds.saturating_mul(MILLISECOND))
}
