//! The way to this host's executor: connects to the one that runs, or starts one. May not: decide what runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Layout;
pub use crate::link::{End, Link};

/// How long a new executor may take until it answers; it may have a dead one's containers to end.
const START: Duration = Duration::from_secs(30);

/// Between two attempts to reach a new executor.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// The executor's own log is begun anew above this, in bytes.
const LOG_MOST: u64 = 1 << 20;

/// How much of the executor's own log an error cites, in bytes.
const LOG_CITED: u64 = 2048;

/// What becomes of an executor that is started here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It ends, with all its containers, when this process does: for commands on one machine.
    Bound,
    /// It outlives this process: for agents.
    Own,
}

/// How to start one where none runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that has the command `executor`; none: this one.
    pub program: Option<PathBuf>,
    /// What becomes of it.
    pub life: Life,
}

/// Why there is no executor, or why it did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None runs, and none could be started.
    #[error("cannot start the executor: {0} (`regatta doctor` tells what this host lacks)")]
    Start(String),
    /// The connection to it broke.
    #[error("the executor went away: {0}")]
    Gone(String),
    /// It refused.
    #[error("the executor refused: {0}")]
    Refused(String),
}

/// Connects to the executor of this data directory, or starts one where none runs. Blocking, for up to
/// half a minute.
pub fn ensure(layout: &Layout, options: &Options) -> Result<Link, Error> {
    if let Ok(link) = Link::connect(layout) {
        return Ok(link);
    }
    let start = |what: &str, error: io::Error| Error::Start(format!("{what}: {error}"));
    layout
        .prepare()
        .map_err(|error| start(&format!("cannot make {}", layout.root().display()), error))?;
    let path = layout.executor().join("start.lock");
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    let lock = lock.map_err(|error| start(&path.display().to_string(), error))?;
    lock.lock()
        .map_err(|error| start(&path.display().to_string(), error))?;
    // Another process may have started one while this one waited for the lock.
    if let Ok(link) = Link::connect(layout) {
        return Ok(link);
    }
    let mut child = spawn(layout, options).map_err(|error| start("cannot run it", error))?;
    let until = Instant::now() + START;
    let reason = loop {
        match child.try_wait() {
            Ok(Some(status)) => break format!("it ended ({status})"),
            Err(error) => break error.to_string(),
            Ok(None) => {}
        }
        match Link::connect(layout) {
            Ok(mut link) => {
                link.keep(child, options.life);
                return Ok(link);
            }
            Err(error) if Instant::now() > until => break error.to_string(),
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    drop(child.kill());
    drop(child.wait());
    Err(Error::Start(format!("{reason}{}", cited(layout))))
}

fn spawn(layout: &Layout, options: &Options) -> io::Result<Child> {
    let program = options
        .program
        .clone()
        .map_or_else(std::env::current_exe, Ok)?;
    let mut command = Command::new(program);
    command.arg("executor").arg("--socket").arg(layout.socket());
    command.arg("--data").arg(layout.root()).current_dir("/");
    command.stdout(Stdio::null()).stderr(log(layout)?);
    match options.life {
        Life::Bound => command.arg("--lifeline").stdin(Stdio::piped()),
        Life::Own => command.stdin(Stdio::null()),
    };
    // Ctrl-C at a terminal is for this process alone; it decides what becomes of the containers.
    command.process_group(0).spawn()
}

fn log(layout: &Layout) -> io::Result<File> {
    let path = layout.executor().join("log");
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_MOST) {
        fs::rename(&path, layout.executor().join("log.old"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The end of the executor's own log, to be put after a sentence.
fn cited(layout: &Layout) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(layout.executor().join("log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_CITED)))?;
        let mut bytes = Vec::new();
        file.take(LOG_CITED).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("; its last words:\n{text}"),
        _ => String::new(),
    }
}
