//! The zygotes: small single-threaded processes, each in a mount namespace with almost nothing in it, that clone
//! containers on order, so that no start pays for the executor's memory or for the host's mounts. A
//! container is a child of the executor, not of its zygote. May not: know what a container is
//! for, or outlive its executor.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{chdir, mkdir, symlinkat};

use crate::child::{self, Table, errno_number};
use crate::order::{ANSWER, Answer, Order};
use crate::sys::process::{CloneFlags, Side};
use crate::sys::{files, mount as mounts, process};

/// Layers of one container at most, the one with mount points included; the kernel's limit for overlay.
pub(crate) const LAYERS_MOST: usize = 500;
/// Longest order, in bytes: a container's arguments and environment are most of it.
const ORDER_MOST: u64 = 16 << 20;
/// What `/proc/1/cmdline` says inside every container.
const NAME: &[u8] = b"regatta-init";

/// A living zygote, as its executor holds it.
#[derive(Debug)]
pub(crate) struct Zygote {
    /// Orders go in here, answers come out.
    pub socket: OwnedFd,
    /// Its process.
    pub pidfd: OwnedFd,
    /// Orders that it has not answered.
    waiting: Vec<u64>,
}

impl Zygote {
    /// Starts one. `room` is any directory; the zygote covers it in its own mount namespace only. The caller must have
    /// one thread.
    pub(crate) fn start(room: &std::path::Path) -> Result<Self, Errno> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let flags = CloneFlags {
            namespaces: libc::CLONE_NEWNS,
            ..CloneFlags::default()
        };
        match process::clone(flags, None)? {
            Side::Child => {
                drop(ours);
                let status = live(&theirs, room).map_or_else(errno_number, |()| 0);
                process::exit(status)
            }
            Side::Parent { pidfd, .. } => Ok(Self {
                socket: ours,
                pidfd,
                waiting: Vec::new(),
            }),
        }
    }

    /// Sends an order with its descriptors. Blocks only as long as the zygote takes to read.
    pub(crate) fn send(&mut self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let text = serde_json::to_vec(order).map_err(|_| Errno::EINVAL)?;
        let mut body = File::from(memfd_create(c"order", MFdFlags::MFD_CLOEXEC)?);
        body.write_all(&text).map_err(|_| Errno::ENOSPC)?;
        let mut all = vec![body.as_fd()];
        all.extend_from_slice(fds);
        files::send_all(self.socket.as_fd(), &all)?;
        self.waiting.push(order.number);
        Ok(())
    }

    /// Receives one answer, with a handle on the container's first process; none when the zygote is gone.
    pub(crate) fn receive(&mut self) -> Result<Option<(Answer, Option<OwnedFd>)>, Errno> {
        let mut bytes = [0; ANSWER];
        let mut fds = Vec::new();
        if files::receive(self.socket.as_fd(), &mut bytes, &mut fds)? != ANSWER {
            return Ok(None);
        }
        let answer = Answer::decode(bytes);
        self.waiting.retain(|number| *number != answer.number);
        Ok(Some((answer, fds.pop())))
    }

    /// The orders that it has not answered.
    pub(crate) fn waiting(&self) -> &[u64] {
        &self.waiting
    }
}

/// The zygote's life.
fn live(socket: &OwnedFd, room: &std::path::Path) -> Result<(), Errno> {
    process::die_with_parent()?;
    process::control(libc::PR_SET_DUMPABLE, 0)?;
    process::block_signals()?;
    let _shown = process::set_name(c"regatta-init");
    hide_arguments();
    let socket = settle(socket)?;
    furnish(room)?;
    while let Some(received) = files::receive_all(socket.as_fd())? {
        let (number, made) = match obey(received) {
            Ok((number, pid, pidfd)) => (number, Ok((pid, pidfd))),
            Err((number, errno)) => (number, Err(errno)),
        };
        match made {
            Ok((pid, pidfd)) => {
                let answer = Answer {
                    number,
                    made: Ok(pid),
                };
                files::send(socket.as_fd(), &answer.encode(), &[pidfd.as_fd()])?;
            }
            Err(errno) => {
                let answer = Answer {
                    number,
                    made: Err(errno_number(errno)),
                };
                files::send(socket.as_fd(), &answer.encode(), &[])?;
            }
        }
    }
    Ok(())
}

/// Clones one container.
fn obey(mut received: Vec<OwnedFd>) -> Result<(u64, i32, OwnedFd), (u64, Errno)> {
    if received.is_empty() {
        return Err((0, Errno::EPROTO));
    }
    let order = read_order(received.remove(0)).map_err(|errno| (0, errno))?;
    let table = Table::new(received);
    let cgroup = match order.cgroup {
        Some(slot) => Some(table.get(slot).map_err(|errno| (order.number, errno))?),
        None => None,
    };
    let flags = CloneFlags {
        namespaces: order.namespaces,
        sibling: true,
    };
    match process::clone(flags, cgroup) {
        Err(errno) => Err((order.number, errno)),
        Ok(Side::Child) => child::run(&order, table),
        Ok(Side::Parent { pid, pidfd }) => Ok((order.number, pid, pidfd)),
    }
}

fn read_order(body: OwnedFd) -> Result<Order, Errno> {
    let mut body = File::from(body);
    let mut text = Vec::new();
    body.seek(SeekFrom::Start(0)).map_err(|_| Errno::EIO)?;
    body.take(ORDER_MOST)
        .read_to_end(&mut text)
        .map_err(|_| Errno::EIO)?;
    serde_json::from_slice(&text).map_err(|_| Errno::EPROTO)
}

/// Lets go of everything that came with the fork but the socket.
fn settle(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let null = nix::fcntl::open("/dev/null", flags, Mode::empty())?;
    let kept = socket.try_clone().map_err(|_| Errno::EMFILE)?;
    for number in 0..3 {
        files::duplicate_to(null.as_fd(), number)?;
    }
    drop(null);
    files::keep_only(kept, 3)
}

/// The command line is that of the executor, with paths of the host; every container could read it.
fn hide_arguments() {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // The second field is a name in parentheses, which may hold anything.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return;
    };
    let mut fields = rest.split(' ').skip(45);
    let mut next = || {
        fields
            .next()
            .and_then(|field| field.trim().parse().ok())
            .unwrap_or(0)
    };
    let (first, end) = (next(), next());
    process::overwrite_arguments(first, end, NAME);
}

/// Makes the zygote's own small root: places to attach to, a `/dev` to copy, an empty directory.
fn furnish(room: &std::path::Path) -> Result<(), Errno> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("regatta"),
        room,
        Some("tmpfs"),
        quiet,
        Some("mode=0755,size=8m"),
    )?;
    chdir(room)?;
    files::pivot_here()?;
    let wide = Mode::from_bits_truncate(0o755);
    for name in ["/l", "/u", "/e", "/r", "/t", "/t/dev", "/t/empty"] {
        mkdir(name, wide)?;
    }
    for number in 0..LAYERS_MOST {
        mkdir(format!("/l/{number}").as_str(), wide)?;
    }
    let sealed = quiet | MsFlags::MS_RDONLY;
    mount(
        Some("tmpfs"),
        "/t/empty",
        Some("tmpfs"),
        sealed,
        Some("mode=0755,nr_inodes=2"),
    )?;
    furnish_devices()
}

/// The devices that every container has, as in Docker's; a read-only mount, copied for each.
fn furnish_devices() -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("tmpfs"),
        "/t/dev",
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=64k"),
    )?;
    nix::sys::stat::umask(Mode::empty());
    let devices = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    for (name, major, minor) in devices {
        let number = libc::makedev(major, minor);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(
            format!("/t/dev/{name}").as_str(),
            SFlag::S_IFCHR,
            mode,
            number,
        )?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, to) in links {
        symlinkat(to, AT_FDCWD, format!("/t/dev/{name}").as_str())?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdir(
            format!("/t/dev/{name}").as_str(),
            Mode::from_bits_truncate(0o755),
        )?;
    }
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open("/t/dev", flags, Mode::empty())?;
    mounts::set_attributes(directory.as_fd(), mounts::RDONLY, None)
}
