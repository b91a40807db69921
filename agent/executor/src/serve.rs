//! An executor's beginning and end: its directory, its socket, what a former executor left. May not: answer
//! anybody before that is cleared.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use crate::disk::Gauge;
use crate::host::Host;
use crate::record::{Init, Left, Records, start_time};
use crate::server::Server;
use crate::sys::process;
use crate::token::Token;
use crate::trash::Trash;
use crate::zygote::Zygote;
use crate::{Error, doctor, seal, seccomp};

/// Zygotes for each processor.
const ZYGOTES_PER_CORE: usize = 2;
/// Zygotes in all.
const ZYGOTES_MOST: usize = 16;
/// How often the end of a former executor's process is looked for, and how long to wait in between.
const LOOKS_MOST: u32 = 400;
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How an executor is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its socket; the directory it lies in is made and kept for its owner alone.
    pub socket: PathBuf,
    /// Its own directory, `executor` in the data directory.
    pub state: PathBuf,
    /// Whether it ends, and all containers with it, once its standard input has ended and nobody is connected any more.
    pub parent_lifeline: bool,
}

/// Runs an executor until it is told to end: by [`Request::Shutdown`](regatta_model::container::Request), by
/// SIGTERM or SIGINT, or by the end of standard input where that was asked for.
///
/// It must be called by a process with one thread, as root.
///
/// # Errors
/// The host lacks what containers need, or another executor uses the same directory.
pub fn serve(options: &Options) -> Result<(), Error> {
    has_one_thread()?;
    umask(Mode::from_bits_truncate(0o022));
    private_directory(&options.state)?;
    let maps_owners = doctor::maps_owners(&options.state).is_ok();
    if !maps_owners {
        seal::run_from_sealed_copy()?;
    }
    let _lock = lock(&options.state)?;
    // Compiled before zygotes are forked, so that no container has to.
    let _compiled = seccomp::filter();
    let signals = block_signals()?;
    let zygotes = start_zygotes(&options.state)?;
    let host = Host::open(&options.state, maps_owners)?;
    let records = Records::open(&options.state)?;
    let mut left = records.left()?;
    clear_left(&host, &mut left)?;
    for ended in left.ended.values() {
        records
            .end(ended)
            .map_err(|error| Error::io("write to", &options.state, &error))?;
    }
    let incarnation = records
        .begin_life(now())
        .map_err(|error| Error::io("write to", &options.state, &error))?;
    let trash = Trash::open(&options.state)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(|errno| Error::call("make an epoll", errno))?;
    let listener = listen(&options.socket)?;
    let mut server = Server {
        epoll,
        listener,
        signals,
        host,
        records,
        state: options.state.clone(),
        incarnation,
        zygotes,
        queue: VecDeque::new(),
        containers: BTreeMap::new(),
        numbers: BTreeMap::new(),
        ended: left.ended,
        connections: BTreeMap::new(),
        next: 0,
        lingering: Vec::new(),
        trash,
        gauge: Gauge::default(),
        shutdown: None,
        orphaned: false,
        buffer: Vec::new(),
    };
    watch_all(&server, options.parent_lifeline)
        .map_err(|errno| Error::call("watch for events", errno))?;
    let ran = server.run();
    close(server, &options.socket);
    ran
}

fn watch_all(server: &Server, lifeline: bool) -> Result<(), nix::errno::Errno> {
    server.watch(&server.listener, Token::Listener, EpollFlags::EPOLLIN)?;
    server.watch(&server.signals, Token::Signals, EpollFlags::EPOLLIN)?;
    for (zygote, place) in server.zygotes.iter().zip(0..) {
        server.watch(&zygote.socket, Token::Zygote(place), EpollFlags::EPOLLIN)?;
    }
    if lifeline {
        // Nothing is ever written to it: any event is its end. A file, or /dev/null, is at its end always,
        // and epoll refuses those.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        server.watch(std::io::stdin(), Token::Lifeline, flags)?;
    }
    Ok(())
}

fn close(mut server: Server, socket: &Path) {
    let _gone = fs::remove_file(socket);
    server.trash.close();
    let zygotes = std::mem::take(&mut server.zygotes);
    // Without their sockets they end, all at the same time.
    let ending: Vec<_> = zygotes.into_iter().map(|zygote| zygote.pidfd).collect();
    for pidfd in ending {
        let _reaped = process::wait_exit(pidfd.as_fd());
    }
    let Server { host, .. } = server;
    // Empty by now; where it is not, the next executor clears it.
    let _left = host.hierarchy.close();
}

/// A fork copies one thread only, and with it the locks that others hold.
fn has_one_thread() -> Result<(), Error> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads == 1 {
        Ok(())
    } else {
        Err(Error::Host(format!(
            "an executor must be a process with one thread, and this one has {threads}; call it first of all"
        )))
    }
}

/// Makes a directory that only its owner can enter.
fn private_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("make", path, &error))
}

/// One executor for each directory.
fn lock(state: &Path) -> Result<Flock<File>, Error> {
    let path = state.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io("open", &path, &error))?;
    // A child of a former executor that was just killed may hold it a moment longer.
    let mut file = file;
    for _ in 0..LOOKS_MOST {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, _)) => file = again,
        }
        thread::sleep(LOOK_AGAIN);
    }
    Err(Error::Host(format!(
        "another executor runs with {}; use that one",
        state.display()
    )))
}

fn block_signals() -> Result<SignalFd, Error> {
    let set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    set.thread_block()
        .map_err(|errno| Error::call("block signals", errno))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| Error::call("listen for signals", errno))
}

fn start_zygotes(state: &Path) -> Result<Vec<Zygote>, Error> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..(cores * ZYGOTES_PER_CORE).min(ZYGOTES_MOST))
        .map(|_| Zygote::start(state).map_err(|errno| Error::call("start a zygote", errno)))
        .collect()
}

/// Ends and removes what a former executor left: processes, cgroups, directories. Its mounts lie in the
/// mount namespaces of those processes and go with them.
fn clear_left(host: &Host, left: &mut Left) -> Result<(), Error> {
    for init in &left.inits {
        end_init(*init);
    }
    host.hierarchy
        .sweep()
        .map_err(|error| Error::Host(format!("cannot end what a former executor left: {error}")))?;
    for directory in left.discard.drain(..) {
        let _absent = fs::remove_dir_all(directory);
    }
    host.clear_rooms()
}

/// Ends a container's first process, if the id is still its own, and waits for that.
fn end_init(init: Init) {
    let Ok(process) = process::open_process(init.pid) else {
        return;
    };
    for _ in 0..LOOKS_MOST {
        // Looked at after the handle was taken: from here on it cannot become another process.
        if start_time(init.pid) != Some(init.started) {
            return;
        }
        if process::signal(process.as_fd(), libc::SIGKILL).is_err() {
            return;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn listen(socket: &Path) -> Result<UnixListener, Error> {
    if let Some(above) = socket.parent() {
        private_directory(above)?;
        let mode = fs::metadata(above).map_or(0, |data| data.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(Error::Host(format!(
                "{} is open to others; its mode must be 0700 for the executor's socket",
                above.display()
            )));
        }
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(Error::Host(format!(
            "another executor listens at {}",
            socket.display()
        )));
    }
    let _absent = fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).map_err(|error| Error::io("listen at", socket, &error))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| Error::io("listen at", socket, &error))?;
    Ok(listener)
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
