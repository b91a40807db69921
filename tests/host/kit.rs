//! A host for tests: a real executor on a socket of its own, a small root filesystem, and a canary that no
//! container may reach. May not: judge isolation; the checks do.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use regatta_executor::Client;
use regatta_model::container::{
    ContainerSpec, Ended, Ending, Limits, Message, Mount, Network, Process, Request, Writable,
};
use regatta_model::log::{Stream, decode, to_text};
pub use regatta_tests::command::regatta;
use regatta_tests::need_root;
use tempfile::TempDir;

/// How long a test waits for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// What the canary file holds.
const CANARY: &str = "only the host may read or change this\n";

/// A host with an executor. Dropping it ends the executor and checks the canary.
pub struct Host {
    directory: TempDir,
    executor: Option<Child>,
    client: Option<Client>,
    ended: Arc<Endings>,
    untouched: Vec<(String, String)>,
    next: AtomicU32,
}

/// The containers that ended and that nobody asked for yet.
#[derive(Default)]
struct Endings {
    by_id: Mutex<HashMap<String, Ended>>,
    news: Condvar,
}

/// A container's end and what it said.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub ended: Ended,
    /// Its output, as a person reads it.
    pub output: String,
    /// Regatta's own notes in it.
    pub notes: Vec<String>,
}

impl Done {
    /// The output, of a program that must have exited with 0.
    pub fn output(self) -> String {
        assert_eq!(
            self.ended.ending,
            Ending::Exited { code: 0 },
            "output: {}",
            self.output
        );
        self.output
    }

    /// The lines of [`Done::output`].
    pub fn lines(self) -> Vec<String> {
        self.output().lines().map(str::to_owned).collect()
    }
}

impl Host {
    /// Starts an executor on an empty data directory.
    pub fn start() -> Self {
        need_root();
        // Not in /tmp, which may be a tmpfs: on hosts such things lie on a disk.
        let builder = tempfile::Builder::new()
            .prefix("regatta-host.")
            .tempdir_in("/var/tmp");
        let directory = builder.unwrap();
        root_filesystem(&directory.path().join("layer"));
        fs::write(directory.path().join("canary"), CANARY).unwrap();
        let mut host = Self {
            directory,
            executor: None,
            client: None,
            ended: Arc::default(),
            untouched: untouched(),
            next: AtomicU32::new(0),
        };
        host.start_executor();
        host
    }

    /// Starts an executor where none runs (any more).
    pub fn start_executor(&mut self) {
        let started = Instant::now();
        loop {
            self.spawn_executor();
            let Err(problem) = self.connect(started) else {
                return;
            };
            // A host runs few executors at once, and other tests have theirs.
            let waits = problem.contains("executors run on this host already");
            assert!(
                waits && started.elapsed() < PATIENCE,
                "no executor: {problem}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn spawn_executor(&mut self) {
        let log = fs::File::create(self.path("executor.log")).unwrap();
        let child = Command::new(regatta())
            .arg("executor")
            .arg("--socket")
            .arg(self.socket())
            .arg("--data")
            .arg(self.path("data"))
            .env("REGATTA_CANARY", "of the host")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.executor = Some(child);
    }

    /// Connects as soon as the executor listens; else what it said before it ended.
    fn connect(&mut self, started: Instant) -> Result<(), String> {
        loop {
            let ended = Arc::clone(&self.ended);
            match Client::connect(&self.socket(), move |end: Ended| ended.put(end)) {
                Ok(client) => {
                    self.client = Some(client);
                    return Ok(());
                }
                Err(error) => {
                    let exited = self.executor.as_mut().unwrap().try_wait().unwrap();
                    if exited.is_some() || started.elapsed() > PATIENCE {
                        let said = fs::read_to_string(self.path("executor.log"));
                        return Err(format!("{error}; it said: {}", said.unwrap_or_default()));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Ends the executor without a warning; its containers stay for the next one.
    pub fn kill_executor(&mut self) {
        let mut executor = self.executor.take().unwrap();
        executor.kill().unwrap();
        executor.wait().unwrap();
        self.client = None;
    }

    /// Asks the executor to end, and waits until it did.
    pub fn end_executor(&mut self) {
        if let Some(client) = self.client.take() {
            // It may be gone before it can answer.
            let _ = client.request(Request::Shutdown);
        }
        let Some(mut executor) = self.executor.take() else {
            return;
        };
        let started = Instant::now();
        while executor.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                let _ = executor.kill();
                let _ = executor.wait();
                panic!("the executor did not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Forgets endings that nobody waited for.
    pub fn forget_endings(&self) {
        self.ended.by_id.lock().unwrap().clear();
    }

    /// The executor's process id.
    pub fn executor_pid(&self) -> u32 {
        self.executor.as_ref().unwrap().id()
    }

    fn socket(&self) -> PathBuf {
        self.path("data/executor/socket")
    }

    /// A path in the host's own directory, which holds `layer`, `canary` and `data`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the names of this host's containers begin with; no other test has it.
    pub fn mark(&self) -> String {
        let name = self.directory.path().extension().unwrap_or_default();
        format!("t{}{}", std::process::id(), name.to_string_lossy())
    }

    /// A new empty directory of the host, for a mount.
    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A container with the test's root filesystem and modest limits.
    pub fn spec(&self, argv: &[&str]) -> ContainerSpec {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.mark());
        ContainerSpec {
            log: self.make("logs").join(&id),
            id,
            layers: vec![self.path("layer")],
            writable: Writable::Memory,
            process: Process {
                argv: argv.iter().map(|part| (*part).to_owned()).collect(),
                env: vec![
                    ("PATH".to_owned(), "/bin".to_owned()),
                    ("COLOUR".to_owned(), "blue".to_owned()),
                ],
                workdir: "/".to_owned(),
                uid: 0,
                gid: 0,
                groups: Vec::new(),
            },
            hostname: "box".to_owned(),
            network: Network::None,
            mounts: Vec::new(),
            limits: Limits {
                cpu_millis: None,
                memory_bytes: Some(256 * MIB),
                processes: Some(64),
                disk_bytes: Some(64 * MIB),
                files: Some(256),
                output_bytes: MIB,
            },
            timeout_ms: 50_000,
            grace_ms: 300,
            lease_ms: None,
        }
    }

    /// A container that runs a line of shell.
    pub fn shell(&self, line: &str) -> ContainerSpec {
        self.spec(&["/bin/sh", "-c", line])
    }

    /// A mount for [`ContainerSpec::mounts`].
    pub fn mount(&self, source: &Path, target: &str, writable: bool) -> Mount {
        Mount {
            source: source.to_path_buf(),
            target: target.to_owned(),
            writable,
        }
    }

    /// Asks the executor.
    pub fn ask(&self, request: Request) -> Message {
        self.client.as_ref().unwrap().request(request).unwrap()
    }

    /// Starts a container.
    pub fn order(&self, spec: &ContainerSpec) -> Message {
        self.ask(Request::Start {
            spec: Box::new(spec.clone()),
        })
    }

    /// Waits for a container's end.
    pub fn wait(&self, spec: &ContainerSpec) -> Done {
        let ended = self.ended.take(&spec.id);
        let log = fs::read(&spec.log).unwrap_or_default();
        let mut rest = log.as_slice();
        let mut notes = Vec::new();
        while let Some(chunk) = decode(&mut rest) {
            if chunk.stream == Stream::Note {
                notes.push(String::from_utf8_lossy(chunk.bytes).into_owned());
            }
        }
        self.ask(Request::Forget {
            id: spec.id.clone(),
        });
        Done {
            ended,
            output: String::from_utf8_lossy(&to_text(&log)).into_owned(),
            notes,
        }
    }

    /// Runs a container to its end.
    pub fn run(&self, spec: &ContainerSpec) -> Done {
        let answer = self.order(spec);
        assert_eq!(
            answer,
            Message::Done {},
            "the executor did not start {}",
            spec.id
        );
        self.wait(spec)
    }

    /// The output of a line of shell that must succeed.
    pub fn sh(&self, line: &str) -> String {
        self.run(&self.shell(line)).output()
    }

    /// What the probe says, line by line.
    pub fn probe(&self, arguments: &[&str]) -> Vec<String> {
        let argv: Vec<&str> = ["/probe"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        self.run(&self.spec(&argv)).lines()
    }

    /// A container that looks at its descriptors.
    pub fn probe_spec(&self) -> ContainerSpec {
        self.spec(&["/probe", "descriptors"])
    }

    /// A second layer over the test's root filesystem, made by `fill`.
    pub fn layer(&self, name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
        let path = self.make(name);
        fill(&path);
        path
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_executor();
        if !thread::panicking() {
            assert_eq!(
                fs::read_to_string(self.path("canary")).unwrap(),
                CANARY,
                "the canary"
            );
            assert_eq!(untouched(), self.untouched, "a container reached the host");
        }
    }
}

impl Endings {
    fn put(&self, ended: Ended) {
        self.by_id.lock().unwrap().insert(ended.id.clone(), ended);
        self.news.notify_all();
    }

    fn take(&self, id: &str) -> Ended {
        let by_id = self.by_id.lock().unwrap();
        let waiting = |by_id: &mut HashMap<String, Ended>| !by_id.contains_key(id);
        let (mut by_id, _) = self
            .news
            .wait_timeout_while(by_id, PATIENCE, waiting)
            .unwrap();
        by_id
            .remove(id)
            .unwrap_or_else(|| panic!("the container {id} does not end"))
    }
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "this does not come: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What of the host no container may change: the executor's program, what the kernel runs on a crash or when
/// a control group empties.
fn untouched() -> Vec<(String, String)> {
    let own = fs::metadata(regatta()).unwrap();
    let program = format!("{} {} {}", own.ino(), own.size(), own.mtime_nsec());
    let mut state = vec![("program".to_owned(), program)];
    let agents = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let agents = agents.map(|entry| entry.path().join("release_agent"));
    for path in agents.chain(["/proc/sys/kernel/core_pattern".into()]) {
        if let Ok(text) = fs::read_to_string(&path) {
            state.push((path.display().to_string(), text));
        }
    }
    state.sort();
    state
}

/// The program `probe.rs`, compiled once for all tests.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let source = include_str!("probe.rs");
        let name = format!(
            "probe-{}",
            &regatta_model::Digest::of(source.as_bytes()).hex()[..16]
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if !path.exists() {
            let building = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let built = building.path().join("probe");
            let mut rustc = Command::new("rustc")
                .args(["--edition", "2024", "-O", "--crate-name", "probe"])
                .args([
                    "-C",
                    "target-feature=+crt-static",
                    "-C",
                    "strip=symbols",
                    "-o",
                ])
                .arg(&built)
                .arg("-")
                .stdin(Stdio::piped())
                .spawn()
                .expect("the suite compiles a small static program: rustc must be in PATH");
            rustc
                .stdin
                .take()
                .unwrap()
                .write_all(source.as_bytes())
                .unwrap();
            assert!(rustc.wait().unwrap().success());
            // Another test may have been faster: it made the same.
            fs::rename(built, &path).unwrap();
        }
        path
    })
}

/// A root filesystem of busybox and the probe.
fn root_filesystem(root: &Path) {
    for directory in [
        "bin",
        "etc",
        "tmp",
        "var/tmp",
        "home/tester",
        "proc",
        "sys",
        "dev",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    let busybox = busybox.expect("the suite needs busybox: apt-get install busybox-static");
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let applets = Command::new(busybox).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines() {
        // Where busybox is one of its own applets, the file is there already.
        let _ = symlink("busybox", root.join("bin").join(applet));
    }
    fs::copy(probe(), root.join("probe")).unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\ntester:x:1000:1000::/:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\ntester:x:1000:\n").unwrap();
}
