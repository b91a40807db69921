//! One container for a person: `regatta exec` and a failing cell's reproduction. Its output is copied as it comes.
//! May not: print by itself; the caller gives where the output goes.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use regatta_image::{Store, passwd};
use regatta_model::Digest;
use regatta_model::container::{ContainerSpec, Ended, Limits, Mount, Network, Writable};
use regatta_model::log::{self, Stream};
use regatta_model::plan::VolumePlan;

use crate::Layout;
use crate::executor::{self, End, Link};
use crate::mould::{self, Defaults, Order, Program};

/// How long a container outlives a command that died, in milliseconds.
pub(crate) const LEASE_MS: u64 = 15_000;

/// Between two renewals.
const RENEW: Duration = Duration::from_secs(3);

/// Between two looks for new output: while there is some, and while there is none.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The image's manifest, in the store.
    pub image: Digest,
    /// Further layers above the image's, the lowest first (a cell's `files` and set-up).
    pub layers: Vec<PathBuf>,
    /// The program, or arguments to the image's own.
    pub program: Program,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// None: the image's.
    pub user: Option<String>,
    /// None: the image's.
    pub workdir: Option<String>,
    /// Its network.
    pub network: Network,
    /// Volumes of this host; made where they are missing.
    pub volumes: Vec<VolumePlan>,
    /// Other directories of the host.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
    /// When it must have ended, in milliseconds.
    pub timeout_ms: u64,
    /// Where its changes are kept as a layer; none: nowhere.
    pub keep: Option<PathBuf>,
}

/// Why a container for a person could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] regatta_image::Error),
    /// It cannot be ordered as wanted.
    #[error(transparent)]
    Mould(#[from] mould::Error),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] executor::Error),
    /// This host's disk, or where the output goes.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The error.
        error: io::Error,
    },
}

/// Runs a container to its end. Blocking. `output` gets what it writes, in order, as it comes; a number from
/// `signals` is sent to its program, [`STOP`] ends the container.
pub fn run(
    layout: &Layout,
    store: &Store,
    link: &Link,
    options: Options,
    output: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
    signals: &Receiver<i32>,
) -> Result<Ended, Error> {
    // Its layers stay while it runs, whatever is pruned.
    let _hold = store.hold(&options.image)?;
    let mut layers = store.unpack(&options.image)?;
    layers.extend(options.layers);
    let defaults = Defaults::read(store, &options.image)?;
    let who = options
        .user
        .or_else(|| defaults.user.clone())
        .unwrap_or_default();
    let user = passwd::resolve(&layers, &who)?;
    let mut mounts = options.mounts;
    for volume in &options.volumes {
        let source = layout.volume(&volume.name);
        fs::create_dir_all(&source).map_err(|error| Error::Io {
            what: "cannot make the volume's directory",
            error,
        })?;
        mounts.push(Mount {
            source,
            target: volume.at.clone(),
            writable: volume.writable,
        });
    }
    let place = Place::new(layout)?;
    let spec = mould::container(Order {
        id: format!("x-{}", place.name()),
        defaults: &defaults,
        layers,
        program: options.program,
        env: options.env,
        user: &user,
        workdir: options.workdir.as_deref(),
        network: options.network,
        mounts,
        limits: options.limits,
        writable: options
            .keep
            .map_or(Writable::Disk, |directory| Writable::Keep { directory }),
        timeout_ms: options.timeout_ms,
        log: place.log(),
        lease_ms: Some(LEASE_MS),
    })?;
    to_end(link, spec, output, signals)
}

/// Runs what was ordered to its end.
pub(crate) fn to_end(
    link: &Link,
    spec: ContainerSpec,
    output: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
    signals: &Receiver<i32>,
) -> Result<Ended, Error> {
    let (id, log) = (spec.id.clone(), spec.log.clone());
    let (tell, told) = sync_channel(1);
    link.start(spec, move |end| {
        // Nobody waits any more: then it is of no use.
        let _ = tell.send(end);
    })?;
    let ended = follow(link, &id, Follower::new(log), output, signals, &told);
    match ended {
        Ok(ended) => {
            link.forget(&id)?;
            Ok(ended)
        }
        Err(error) => {
            link.end(&id);
            Err(error)
        }
    }
}

/// Among the signals: ends the container at once.
pub const STOP: i32 = -1;

fn follow(
    link: &Link,
    id: &str,
    mut log: Follower,
    output: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
    signals: &Receiver<i32>,
    told: &Receiver<End>,
) -> Result<Ended, Error> {
    let failed = |error| Error::Io {
        what: "cannot pass the output on",
        error,
    };
    let mut renewed = Instant::now();
    let mut pause = LOOKS.0;
    loop {
        let end = match told.recv_timeout(pause) {
            Ok(End::Ended(ended)) => Some(ended),
            Ok(End::Lost) | Err(RecvTimeoutError::Disconnected) => {
                log.copy(output).map_err(failed)?;
                return Err(executor::Error::Gone("its containers are ended".to_owned()).into());
            }
            Err(RecvTimeoutError::Timeout) => None,
        };
        let some = log.copy(output).map_err(failed)?;
        if let Some(ended) = end {
            return Ok(*ended);
        }
        pause = if some {
            LOOKS.0
        } else {
            LOOKS.1.min(pause * 2)
        };
        for signal in signals.try_iter() {
            // It may have ended a moment ago.
            let _ = if signal == STOP {
                link.stop(id)
            } else {
                link.signal(id, signal)
            };
        }
        if renewed.elapsed() > RENEW {
            link.renew(vec![id.to_owned()], LEASE_MS)?;
            renewed = Instant::now();
        }
    }
}

/// A directory for one container's log, removed at the end.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// Makes one; what dead commands left is removed.
    pub(crate) fn new(layout: &Layout) -> Result<Self, Error> {
        let failed = |error| Error::Io {
            what: "cannot make a directory for the output",
            error,
        };
        layout.prepare().map_err(failed)?;
        let directory = layout.execs();
        for entry in fs::read_dir(&directory).map_err(failed)?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        let prefix = format!("{}-", std::process::id());
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(directory);
        Ok(Self(made.map_err(failed)?))
    }

    /// Its name, which no other one on this host has.
    pub(crate) fn name(&self) -> String {
        self.0
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Where the log goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

/// Reads a log as it grows.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// Bytes read and not yet whole records.
    rest: Vec<u8>,
}

impl Follower {
    /// Of the log at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    /// Passes on what is new. Gives whether there was anything.
    pub fn copy(
        &mut self,
        output: &mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        let mut buffer = vec![0; log::HEADER + log::CHUNK_MOST];
        let mut some = false;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(some);
            }
            some = true;
            self.rest
                .extend_from_slice(buffer.get(..read).unwrap_or_default());
            let mut rest = self.rest.as_slice();
            while let Some(chunk) = log::decode(&mut rest) {
                output(chunk.stream, chunk.bytes)?;
            }
            let done = self.rest.len() - rest.len();
            self.rest.drain(..done);
        }
    }
}
