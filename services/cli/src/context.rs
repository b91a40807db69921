//! What every command has at hand, and how a command fails. May not: know a command.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use regatta_daemon::Layout;
use regatta_daemon::executor::{self, Life};
use regatta_daemon::link::Link;
use regatta_image::Store;

use crate::args::{Global, When};
use crate::color::Paint;

/// What every command has at hand.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) global: Global,
    /// This process's hold on its executor, for as long as the process lives: builds, `exec` and the local agent all use
    /// the same one, and an executor that was started here ends when its last holder does.
    executor: Arc<Mutex<Option<Arc<Link>>>>,
}

impl Context {
    pub(crate) fn new(mut global: Global) -> Self {
        // Other processes are told of it, and stand elsewhere. An empty path stays what it is, and is refused later.
        if let Ok(data) = absolute(&global.data) {
            global.data = data;
        }
        match global.color {
            When::Always => anstream::ColorChoice::Always.write_global(),
            When::Never => anstream::ColorChoice::Never.write_global(),
            When::Auto => {}
        }
        start_diagnostics(&global);
        // reqwest and rustls are built without a default; a second call has no effect.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self {
            global,
            executor: Arc::default(),
        }
    }

    /// This machine's data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.global.data
    }

    /// Whether commands use this machine's own server, which shares this machine's images.
    pub(crate) const fn is_local(&self) -> bool {
        self.global.server.is_none()
    }

    /// This machine's images.
    pub(crate) fn images(&self) -> Result<Store, Failure> {
        let directory = self.data().join("images");
        make_private(self.data())?;
        Store::open(&directory).map_err(Failure::platform)
    }

    /// Commands that make containers here are root's; said before images are pulled and built.
    pub(crate) fn need_root(&self) -> Result<(), Failure> {
        use std::os::unix::fs::MetadataExt as _;
        let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if root || !self.is_local() {
            return Ok(());
        }
        Err(Failure::wrong(
            "containers are made by root: run it as `sudo regatta ...`, or name a server with --server",
        ))
    }

    /// This machine's executor: the one that runs, or one that ends with this process. Blocking, for up to half a minute.
    pub(crate) fn executor(&self) -> Result<(Layout, Arc<Link>), Failure> {
        self.need_root()?;
        let layout = Layout::new(self.data());
        let mut held = self.executor.lock().unwrap_or_else(PoisonError::into_inner);
        let link = if let Some(link) = held.as_ref().filter(|link| !link.is_gone()) {
            Arc::clone(link)
        } else {
            let options = executor::Options {
                program: None,
                life: Life::Bound,
            };
            let link = executor::ensure(&layout, &options).map_err(Failure::platform)?;
            Arc::clone(held.insert(Arc::new(link)))
        };
        Ok((layout, link))
    }

    /// Whether progress is to be drawn: on a terminal only, and not when told to be quiet.
    pub(crate) fn draws(&self) -> bool {
        use std::io::IsTerminal as _;
        !self.global.quiet && std::io::stderr().is_terminal()
    }

    /// How to paint standard output.
    pub(crate) fn paint(&self) -> Paint {
        Paint::for_stdout(self.global.color)
    }

    /// A line on standard error that `--quiet` leaves out.
    pub(crate) fn say(&self, line: impl fmt::Display) {
        if !self.global.quiet {
            anstream::eprintln!("{line}");
        }
    }
}

/// The data directory is the operator's own: images hold set-user-id programs, volumes hold data.
pub(crate) fn make_private(directory: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::wrong(format!(
            "cannot make the data directory {}: {error}; name another one with --data or REGATTA_DATA",
            directory.display()
        ))
    })
}

fn start_diagnostics(global: &Global) {
    use tracing_subscriber::EnvFilter;
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("REGATTA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A second start in one process (a test) keeps the first.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_target(false)
            .without_time()
            .with_ansi(Paint::for_stderr(global.color).is_on())
            .try_init(),
    );
}

/// How a command fails: with which exit status, and what to say.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    unreachable: bool,
    message: String,
}

impl Failure {
    /// The command or the matrix is wrong: exit status 2.
    pub(crate) fn wrong(message: impl fmt::Display) -> Self {
        Self {
            status: 2,
            unreachable: false,
            message: message.to_string(),
        }
    }

    /// The platform could not do it: exit status 3.
    pub(crate) fn platform(message: impl fmt::Display) -> Self {
        Self {
            status: 3,
            unreachable: false,
            message: message.to_string(),
        }
    }

    /// The server does not answer: the platform failed, but another try may find it.
    pub(crate) fn unreachable(message: impl fmt::Display) -> Self {
        Self {
            unreachable: true,
            ..Self::platform(message)
        }
    }

    /// Whether the server did not answer.
    pub(crate) const fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// Whether the platform failed rather than the command.
    pub(crate) const fn is_platform(&self) -> bool {
        self.status == 3
    }

    /// The same failure with another exit status.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// Says it on standard error, and gives the exit status.
    pub(crate) fn report(&self, global: &Global) -> ExitCode {
        complain(global, &self.message);
        ExitCode::from(self.status)
    }
}

/// Says an error on standard error. A text that already is a whole diagnostic (it begins with `error`) stands as it is.
pub(crate) fn complain(global: &Global, message: &str) {
    let message = message.trim_end();
    if message.starts_with("error") || message.starts_with('\u{1b}') {
        anstream::eprintln!("{message}");
    } else {
        anstream::eprintln!(
            "{} {message}",
            Paint::for_stderr(global.color).bad("error:")
        );
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::platform(error)
    }
}

/// `K=V`, split at the first `=`; `example` is what a person should have typed.
pub(crate) fn key_value<'a>(
    option: &str,
    text: &'a str,
    example: &str,
) -> Result<(&'a str, &'a str), Failure> {
    let split = text.split_once('=').filter(|(key, _)| !key.is_empty());
    split.ok_or_else(|| Failure::wrong(format!("--{option} {text}: expected {example}")))
}

/// A path from the command line, made absolute.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))
}

/// The value of an option that is a size, a time or a number; none where it is not given.
pub(crate) fn quantity(
    option: &str,
    text: Option<&str>,
    expected: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let value = parse(text).filter(|value| *value > 0);
    value
        .map(Some)
        .ok_or_else(|| Failure::wrong(format!("--{option} {text}: expected {expected}")))
}
