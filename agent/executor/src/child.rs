//! A container's first process: carries out its steps, starts the program, then is its init: reaps
//! what is left behind, passes signals on, and reports the program's end. May not: return to
//! the zygote's code, nor touch anything but what its order names.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, sethostname, setsid};

use crate::mounting::{Tree, mask, overlay, present, read_only, source_tree, text, write_file};
use crate::order::{Order, Report};
use crate::steps::{SLOTS_MOST, Slot, Source, Step};
use crate::sys::process::ORDER_SIGNAL;
use crate::sys::{credentials, files, mount, process};
use crate::{capabilities, mounting, seccomp, target};

/// The exit status of a program's process that never became the program.
const NEVER_STARTED: i32 = 127;
/// The capabilities that init keeps once the program runs: to signal it, whoever it became.
const INIT_CAPABILITIES: u64 = 1 << 5;
type Result<T> = std::result::Result<T, Errno>;

/// The descriptors that steps name.
pub(crate) struct Table(Vec<Option<OwnedFd>>);

impl Table {
    pub(crate) fn new(received: Vec<OwnedFd>) -> Self {
        Self(received.into_iter().map(Some).collect())
    }

    pub(crate) fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        match self.0.get(usize::from(slot.0)) {
            Some(Some(fd)) => Ok(fd.as_fd()),
            _ => Err(Errno::EBADF),
        }
    }

    pub(crate) fn optional(&self, slot: Option<Slot>) -> Result<Option<BorrowedFd<'_>>> {
        slot.map(|slot| self.get(slot)).transpose()
    }

    fn put(&mut self, slot: Slot, fd: OwnedFd) -> Result<()> {
        if slot.0 >= SLOTS_MOST {
            return Err(Errno::EMFILE);
        }
        while self.0.len() <= usize::from(slot.0) {
            self.0.push(None);
        }
        if let Some(place) = self.0.get_mut(usize::from(slot.0)) {
            *place = Some(fd);
        }
        Ok(())
    }
}

/// Becomes the container.
pub(crate) fn run(order: &Order, mut table: Table) -> ! {
    let Ok(report) = table
        .get(order.report)
        .and_then(|fd| fd.try_clone_to_owned().map_err(|_| Errno::EMFILE))
    else {
        process::exit(NEVER_STARTED)
    };
    for (place, step) in order.setup.iter().enumerate() {
        if let Err(errno) = carry_out(step, &mut table) {
            fail(&report, place, errno);
        }
    }
    // From here on this process ends with its executor; whoever has none already should not be.
    if is_unheard(&report) {
        process::exit(NEVER_STARTED);
    }
    let program = match Program::new(&order.program) {
        Ok(program) => program,
        Err(errno) => fail(&report, order.setup.len() + order.program.len(), errno),
    };
    // The child shares our memory: it allocates nothing.
    let mut child = || {
        for (place, step) in order.program.iter().enumerate() {
            let done = match step {
                Step::Execute { .. } => Err(program.execute()),
                step => become_program(step, &table),
            };
            if let Err(errno) = done {
                let _heard = tell_failure(&report, order.setup.len() + place, errno);
                break;
            }
        }
        NEVER_STARTED
    };
    match process::spawn_sharing(&mut child) {
        Err(errno) => fail(&report, order.setup.len() + order.program.len(), errno),
        Ok(pid) => {
            // The report of a failure, if there was one, is already in the pipe, before this.
            let at = process::monotonic_ns();
            drop(table);
            let _gone = tell(&report, Report::Started { at });
            init(&report, pid)
        }
    }
}

/// Whether nobody can read the report any more. (To write something would only wake the executor.)
fn is_unheard(report: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(report.as_fd(), PollFlags::empty())];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn tell(report: &OwnedFd, what: Report) -> Result<()> {
    nix::unistd::write(report, &what.encode()).map(drop)
}

fn tell_failure(report: &OwnedFd, place: usize, errno: Errno) -> Result<()> {
    let step = u32::try_from(place).unwrap_or(u32::MAX);
    tell(
        report,
        Report::Failed {
            step,
            errno: errno_number(errno),
        },
    )
}

fn fail(report: &OwnedFd, place: usize, errno: Errno) -> ! {
    let _gone = tell_failure(report, place, errno);
    process::exit(NEVER_STARTED)
}

/// The number of an error.
pub(crate) fn errno_number(errno: Errno) -> i32 {
    std::io::Error::from(errno).raw_os_error().unwrap_or(0)
}

/// Init's life: ends with the program, and all that is left in the container with it.
fn init(report: &OwnedFd, program: i32) -> ! {
    let _kept = capabilities::set(INIT_CAPABILITIES);
    loop {
        let Ok(taken) = process::wait_signal() else {
            continue;
        };
        match taken.signal {
            libc::SIGCHLD => reap(report, program),
            ORDER_SIGNAL => pass_on(program, taken.value),
            signal => pass_on(program, signal),
        }
    }
}

fn pass_on(program: i32, signal: i32) {
    // A number that is no signal does nothing, nor does one to a program that is gone.
    let _gone = process::kill(program, signal);
}

fn reap(report: &OwnedFd, program: i32) {
    while let Ok(Some((pid, status))) = process::reap_any() {
        if pid == program {
            let _gone = tell(
                report,
                Report::Ended {
                    status,
                    at: process::monotonic_ns(),
                },
            );
            process::exit(0)
        }
    }
}

/// Does one step.
fn carry_out(step: &Step, table: &mut Table) -> Result<()> {
    match step {
        Step::JoinCgroup { tasks } => nix::unistd::write(table.get(*tasks)?, b"0").map(drop),
        Step::NewCgroupNamespace => process::unshare(libc::CLONE_NEWCGROUP),
        Step::FileOwner { uid, gid } => credentials::set_file_owner(*uid, *gid),
        Step::AttachTree { tree, users, at } => {
            let tree = table.get(*tree)?;
            mount::set_attributes(tree, 0, table.optional(*users)?)?;
            mount::attach_at(tree, AT_FDCWD, &text(at)?)
        }
        Step::Overlay { from, options, at } => overlay(from, options, at),
        Step::OpenRoot { at, into } => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let root = nix::fcntl::open(at.as_str(), flags, Mode::empty())?;
            table.put(*into, root)
        }
        Step::Mount {
            source,
            root,
            target,
            directory,
            attributes,
            users,
            keep,
            ..
        } => {
            let at = target::make(table.get(*root)?, target, *directory)?;
            if !matches!(source, Source::New { .. }) {
                mounting::refuse_kernel(at.as_fd())?;
            }
            let tree = source_tree(source, table, *attributes, *users)?;
            mount::attach(tree.get(table)?, at.as_fd())?;
            match (keep, tree) {
                (Some(keep), Tree::Own(tree)) => table.put(*keep, tree),
                _ => Ok(()),
            }
        }
        Step::Mask { inside, path } => present(mask(table.get(*inside)?, &text(path)?)),
        Step::ReadOnly { inside, path } => present(read_only(table.get(*inside)?, &text(path)?)),
        Step::LoopbackUp => credentials::loopback_up(),
        Step::Sysctl {
            inside,
            path,
            value,
        } => present(write_file(table.get(*inside)?, path, value)),
        Step::OomScore { inside, score } => write_file(
            table.get(*inside)?,
            "self/oom_score_adj",
            &score.to_string(),
        ),
        Step::Hostname(name) => sethostname(name),
        Step::Pivot { root } => {
            fchdir(table.get(*root)?)?;
            files::pivot_here()
        }
        Step::EnterUsers { users } => process::enter(table.get(*users)?, libc::CLONE_NEWUSER),
        // A program is executed by [`Program`] alone.
        other => become_program(other, table),
    }
}

/// The steps that concern the process itself rather than what it sees.
fn become_program(step: &Step, table: &Table) -> Result<()> {
    match step {
        Step::Become { uid, gid, groups } => {
            credentials::set_groups(groups)?;
            credentials::set_group(*gid)?;
            credentials::set_user(*uid)
        }
        Step::MakeDirectory(path) => target::make_directories(path),
        Step::NewKeyring => credentials::new_keyring(),
        Step::BoundCapabilities(mask) => capabilities::bound(*mask),
        Step::HoldCapabilities(mask) => capabilities::set(*mask),
        Step::DieWithExecutor => {
            process::control(libc::PR_SET_DUMPABLE, 0)?;
            process::die_with_parent()
        }
        Step::NoNewPrivileges => process::control(libc::PR_SET_NO_NEW_PRIVS, 1),
        Step::LimitFiles { soft, hard } => setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard),
        Step::NoCoreFiles => setrlimit(Resource::RLIMIT_CORE, 0, 0),
        Step::NewSession => setsid().map(drop),
        Step::Umask(mask) => {
            nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Step::Standard { out, err } => {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
            let null = nix::fcntl::open("/dev/null", flags, Mode::empty())?;
            files::duplicate_to(null.as_fd(), 0)?;
            files::duplicate_to(table.get(*out)?, 1)?;
            files::duplicate_to(table.get(*err)?, 2)
        }
        Step::ChangeDirectory(path) => chdir(path.as_str()),
        Step::DefaultSignals => process::default_signals(),
        Step::CloseDescriptors => files::close_from_at_exec(3),
        Step::Filter => credentials::load_filter(seccomp::filter()),
        // Every other step is carried out by our caller.
        _ => Err(Errno::ENOSYS),
    }
}

/// A program with all its texts as the kernel takes them, made before the process that executes it.
struct Program {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Into `argv` and `env`, each with a null pointer at its end.
    argv_pointers: Vec<*const libc::c_char>,
    env_pointers: Vec<*const libc::c_char>,
}

impl Program {
    fn new(steps: &[Step]) -> Result<Self> {
        let Some(Step::Execute {
            candidates,
            argv,
            env,
        }) = steps.last()
        else {
            return Err(Errno::EINVAL);
        };
        let texts = |all: &[String]| all.iter().map(|one| text(one)).collect::<Result<Vec<_>>>();
        let (candidates, argv, env) = (texts(candidates)?, texts(argv)?, texts(env)?);
        let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
        Ok(Self {
            candidates,
            argv,
            env,
            argv_pointers,
            env_pointers,
        })
    }

    /// Tries each candidate; the error is the one that says most.
    fn execute(&self) -> Errno {
        debug_assert!(self.argv.len() < self.argv_pointers.len());
        debug_assert!(self.env.len() < self.env_pointers.len());
        let mut worst = Errno::ENOENT;
        for candidate in &self.candidates {
            match process::execute(candidate, &self.argv_pointers, &self.env_pointers) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => worst = Errno::EACCES,
                other => return other,
            }
        }
        worst
    }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}
