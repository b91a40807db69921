//! Nothing leaks: containers of every kind, executors killed at any moment, and nothing is left of them. As
//! root, with `busybox` on the host. May not: look at what other executors of this host hold.
//!
//! It has a `main` of its own, since it starts itself as the executor, which must have one thread.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::duration_suboptimal_units,
    reason = "a test says what it found, and ends where it finds something unexpected"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use regatta_executor::{Client, Options, serve};
use regatta_model::container::{
    ContainerSpec, Ended, Ending, Limits, Message, Mount, Network, Process, Request, Status,
    Writable,
};

/// The tests by name.
const TESTS: [(&str, fn()); 7] = [
    (
        "containers_of_every_kind_leave_nothing",
        containers_of_every_kind_leave_nothing,
    ),
    (
        "a_killed_executor_leaves_nothing_to_the_next",
        a_killed_executor_leaves_nothing_to_the_next,
    ),
    ("dead_zygotes_are_replaced", dead_zygotes_are_replaced),
    (
        "an_executor_ends_with_its_lifeline",
        an_executor_ends_with_its_lifeline,
    ),
    ("a_layer_on_disk_is_bounded", a_layer_on_disk_is_bounded),
    (
        "leases_stops_and_signals_end_a_container",
        leases_stops_and_signals_end_a_container,
    ),
    (
        "a_flood_of_output_is_cut_and_holds_nobody_up",
        a_flood_of_output_is_cut_and_holds_nobody_up,
    ),
];
/// How long anything may take before the test calls it hung.
const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, state, lifeline] = args.as_slice()
        && command == "executor"
    {
        let state = PathBuf::from(state);
        let socket = state.join("socket");
        let ended = serve(&Options {
            socket,
            state,
            parent_lifeline: lifeline == "lifeline",
        });
        ended.unwrap();
        return;
    }
    // What test runners ask: which tests are there, and to run those of a name.
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            for (name, _) in TESTS {
                println!("{name}: test");
            }
        }
        return;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, test) in TESTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// A directory with everything, an executor in it, and a way to talk to it.
struct Scene {
    scratch: tempfile::TempDir,
    root: PathBuf,
}

struct Executor {
    child: Child,
    /// None once it has hung up.
    client: Option<Client>,
    ends: Receiver<Ended>,
}

impl Scene {
    fn new() -> Self {
        assert!(
            fs::read_to_string("/proc/self/status")
                .unwrap()
                .contains("Uid:\t0\t0"),
            "containers need root: run this test as root"
        );
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("this test needs /bin/busybox: apt-get install busybox-static");
        for name in [
            "sh", "true", "sleep", "dd", "mkdir", "rm", "echo", "setsid", "yes",
        ] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::create_dir(scratch.path().join("logs")).unwrap();
        fs::create_dir(scratch.path().join("volume")).unwrap();
        Self { scratch, root }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("executor")
    }

    fn start(&self) -> Executor {
        self.start_as("own", Stdio::null())
    }

    fn start_as(&self, life: &str, stdin: Stdio) -> Executor {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("executor")
            .arg(self.state())
            .arg(life)
            .stdin(stdin)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, ends) = channel();
        let client = until("the executor answers", || {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "the executor ended at once"
            );
            let sender = sender.clone();
            Client::connect(&self.state().join("socket"), move |end| {
                drop(sender.send(end));
            })
            .ok()
        });
        Executor {
            child,
            client: Some(client),
            ends,
        }
    }

    fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            layers: vec![self.root.clone()],
            writable: Writable::Memory,
            process: Process {
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                env: Vec::new(),
                workdir: "/work".to_owned(),
                uid: 0,
                gid: 0,
                groups: Vec::new(),
            },
            hostname: "leak".to_owned(),
            network: Network::None,
            mounts: vec![Mount {
                source: self.scratch.path().join("volume"),
                target: "/data/volume".to_owned(),
                writable: true,
            }],
            limits: Limits {
                cpu_millis: Some(1_000),
                memory_bytes: Some(64 << 20),
                processes: Some(64),
                disk_bytes: Some(8 << 20),
                files: Some(256),
                output_bytes: 4_096,
            },
            timeout_ms: 30_000,
            grace_ms: 100,
            log: self.scratch.path().join("logs").join(id),
            lease_ms: None,
        }
    }

    /// Kinds of containers, each with what its end must be.
    fn kind(&self, number: u64, id: &str) -> (ContainerSpec, fn(&Ending) -> bool) {
        let orphans = "setsid sleep 1000 & (sleep 1000 & sleep 1000) & ";
        let exited: fn(&Ending) -> bool = |end| *end == Ending::Exited { code: 0 };
        match number % 10 {
            0 => (self.spec(id, "true"), exited),
            1 => (self.spec(id, &format!("{orphans} exit 0")), exited),
            2 => {
                let spec = ContainerSpec {
                    writable: Writable::Disk,
                    ..self.spec(id, "mkdir -p /a/b/c; echo x > /a/b/c/d; rm /bin/yes")
                };
                (spec, exited)
            }
            3 => {
                let directory = self.scratch.path().join("kept").join(id);
                fs::create_dir_all(directory.parent().unwrap()).unwrap();
                let spec = ContainerSpec {
                    writable: Writable::Keep { directory },
                    ..self.spec(id, "mkdir -p /a/b/c; echo x > /a/b/c/d")
                };
                (spec, exited)
            }
            4 => {
                let spec = ContainerSpec {
                    timeout_ms: 50,
                    ..self.spec(id, &format!("{orphans} wait"))
                };
                (spec, |end| *end == Ending::TimedOut)
            }
            5 => (
                self.spec(id, "dd if=/dev/zero bs=1024 count=100; true"),
                exited,
            ),
            6 => {
                let mut spec = self.spec(id, "");
                spec.process.argv = vec!["no-such-program".to_owned()];
                (spec, |end| matches!(end, Ending::CannotStart { .. }))
            }
            7 => {
                let mut spec = self.spec(id, "true");
                spec.layers = vec![self.scratch.path().join("no-such-layer")];
                (spec, |end| matches!(end, Ending::HostFault { .. }))
            }
            8 => {
                let spec = ContainerSpec {
                    network: Network::Host,
                    ..self.spec(id, "true")
                };
                (spec, exited)
            }
            _ => (self.spec(id, "kill -9 $$"), |end| {
                *end == Ending::Signaled { signal: 9 }
            }),
        }
    }

    /// Everything of this executor's containers that the host shows, by kind.
    fn held(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mine = format!("regatta/{}/", instance(&self.state()));
        let mut processes = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if cgroups.contains(&mine) {
                processes.insert(entry.path().display().to_string());
            }
        }
        let mut cgroups = BTreeSet::new();
        for hierarchy in hierarchies() {
            for entry in fs::read_dir(hierarchy.join(mine.trim_end_matches('/')))
                .into_iter()
                .flatten()
            {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    cgroups.insert(path.display().to_string());
                }
            }
        }
        let scratch = self.scratch.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts
            .lines()
            .filter(|line| line.contains(&scratch))
            .map(str::to_owned);
        let mut directories = BTreeSet::new();
        for below in [
            "executor/live",
            "executor/rooms",
            "executor/ended",
            "executor/trash",
            "kept",
        ] {
            for entry in fs::read_dir(self.scratch.path().join(below))
                .into_iter()
                .flatten()
            {
                let entry = entry.unwrap();
                // What a container was told to keep stays, and nothing else.
                if below != "kept" || entry.file_name().to_string_lossy().starts_with('.') {
                    directories.insert(entry.path().display().to_string());
                }
            }
        }
        BTreeMap::from([
            ("processes", processes),
            ("cgroups", cgroups),
            ("mounts", mounts.collect()),
            ("directories", directories),
        ])
    }

    fn holds_nothing(&self) {
        let began = Instant::now();
        loop {
            let held = self.held();
            if held.values().all(BTreeSet::is_empty) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "left behind: {held:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Only a failed test leaves one running.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Executor {
    fn ask(&self, request: Request) -> Message {
        self.client.as_ref().unwrap().request(request).unwrap()
    }

    fn order(&self, spec: ContainerSpec) {
        assert_eq!(
            self.ask(Request::Start {
                spec: Box::new(spec)
            }),
            Message::Done {}
        );
    }

    fn list(&self) -> Vec<Status> {
        match self.ask(Request::List) {
            Message::Containers { containers } => containers,
            other => panic!("{other:?}"),
        }
    }

    fn forget(&self, id: &str) {
        assert_eq!(
            self.ask(Request::Forget { id: id.to_owned() }),
            Message::Done {}
        );
    }

    /// Its descriptors, without the user namespaces that it keeps for the next container.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|link| !link.to_string_lossy().starts_with("user:"))
            .count()
    }

    /// Its children: zygotes, and containers' first processes.
    fn children(&self) -> BTreeSet<u32> {
        let parent = self.child.id();
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
                after.split(' ').nth(1) == Some(&parent.to_string())
            })
            .collect()
    }
}

fn containers_of_every_kind_leave_nothing() {
    const COUNT: u64 = 200;
    const AT_ONCE: usize = 6;
    let scene = Scene::new();
    let mut executor = scene.start();
    let mut running = BTreeMap::new();
    let mut descriptors = None;
    let first = executor.children();
    let mut children = BTreeSet::new();
    for number in 0..COUNT {
        let id = format!("c-{number}");
        let (spec, fits) = scene.kind(number, &id);
        executor.order(spec);
        running.insert(id, fits);
        let most = if number + 1 == COUNT { 0 } else { AT_ONCE };
        while running.len() > most {
            let ended = executor
                .ends
                .recv_timeout(PATIENCE)
                .expect("a container never ended");
            let fits = running.remove(&ended.id).expect("an end was told twice");
            assert!(fits(&ended.ending), "{ended:?}");
            executor.forget(&ended.id);
        }
        // By now every range of ids and every set of mount points in use is known to it.
        if number == COUNT / 2 {
            while !running.is_empty() {
                let ended = executor
                    .ends
                    .recv_timeout(PATIENCE)
                    .expect("a container never ended");
                running.remove(&ended.id);
                executor.forget(&ended.id);
            }
            scene.holds_nothing();
            (descriptors, children) = until("its helpers end", || {
                let zygotes = executor.children();
                (zygotes == first).then(|| (Some(executor.descriptors()), zygotes))
            });
        }
    }
    scene.holds_nothing();
    // A child that clears away or measures may just be at it.
    until("as many descriptors as before are open", || {
        (Some(executor.descriptors()) == descriptors).then_some(())
    });
    until("as many processes as before run", || {
        (executor.children() == children).then_some(())
    });
    assert_eq!(executor.ask(Request::Shutdown), Message::Done {});
    assert!(executor.child.wait().unwrap().success());
    let left = hierarchies()
        .into_iter()
        .map(|path| path.join("regatta").join(instance(&scene.state())));
    assert_eq!(
        left.filter(|path| path.exists()).collect::<Vec<_>>(),
        Vec::<PathBuf>::new()
    );
    until("its children end", || {
        children.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
}

fn a_killed_executor_leaves_nothing_to_the_next() {
    let scene = Scene::new();
    let mut random = Random::new();
    for round in 0..ROUNDS {
        let mut executor = scene.start();
        scene.holds_nothing();
        let mut ordered = BTreeSet::new();
        for number in 0..12 {
            let id = format!("r-{round}-{number}");
            let (mut spec, _) = scene.kind(random.below(10), &id);
            if number % 3 == 0 {
                spec.process.argv = vec!["sleep".to_owned(), "1000".to_owned()];
            }
            executor.order(spec);
            ordered.insert(id);
        }
        // Anywhere between the first clone and the last end.
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let children = executor.children();
        executor.child.kill().unwrap();
        executor.child.wait().unwrap();
        assert!(
            executor.client.as_ref().unwrap().wait_closed(PATIENCE),
            "the client did not notice"
        );
        let next = scene.start();
        let held = scene.held();
        assert_eq!(
            held.get("processes"),
            Some(&BTreeSet::new()),
            "processes outlive"
        );
        assert_eq!(
            held.get("cgroups"),
            Some(&BTreeSet::new()),
            "cgroups outlive"
        );
        let known: BTreeMap<String, Option<Ended>> = next
            .list()
            .into_iter()
            .map(|status| (status.id, status.ended))
            .collect();
        assert_eq!(
            known.keys().cloned().collect::<BTreeSet<_>>(),
            ordered,
            "forgot some"
        );
        for (id, ended) in known {
            let ended = ended.unwrap_or_else(|| panic!("{id} still runs"));
            assert_eq!(ended.id, id);
            next.forget(&id);
        }
        until("zygotes end", || {
            children.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        scene.holds_nothing();
        let mut next = next;
        assert_eq!(next.ask(Request::Shutdown), Message::Done {});
        assert!(next.child.wait().unwrap().success());
    }
}

fn dead_zygotes_are_replaced() {
    let scene = Scene::new();
    let executor = scene.start();
    let zygotes = executor.children();
    assert!(!zygotes.is_empty(), "an executor without zygotes");
    executor.order(scene.spec("lives-on", "sleep 0.2; echo still here"));
    until("it runs", || (executor.children() != zygotes).then_some(()));
    for zygote in &zygotes {
        assert!(
            Command::new("kill")
                .args(["-9", &zygote.to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
    // What was cloned before is the executor's own child; what comes after gets other zygotes.
    let ended = executor.ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended.ending, Ending::Exited { code: 0 });
    let others = until("other zygotes come", || {
        let now = executor.children();
        (now.len() == zygotes.len() && now.is_disjoint(&zygotes)).then_some(now)
    });
    for number in 0..12 {
        executor.order(scene.spec(&format!("after-{number}"), "true"));
        let ended = executor.ends.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ended.ending, Ending::Exited { code: 0 }, "{ended:?}");
    }
    assert_eq!(executor.children(), others);
    end(executor);
}

fn an_executor_ends_with_its_lifeline() {
    let scene = Scene::new();
    let mut executor = scene.start_as("lifeline", Stdio::piped());
    executor.order(scene.spec("c", "setsid sleep 1000 & sleep 1000"));
    until("it runs", || {
        scene
            .held()
            .get("processes")
            .filter(|all| all.len() >= 3)
            .map(drop)
    });
    drop(executor.child.stdin.take());
    // Whoever is connected still uses it.
    assert_eq!(executor.list().len(), 1);
    drop(executor.client.take());
    let status = until("it ends", || executor.child.try_wait().unwrap());
    assert!(status.success());
    let next = scene.start();
    let known = next.list();
    assert!(
        matches!(
            &known[..],
            [Status {
                ended: Some(Ended {
                    ending: Ending::Stopped,
                    ..
                }),
                ..
            }]
        ),
        "{known:?}"
    );
    next.forget("c");
    scene.holds_nothing();
    end(next);
}

fn a_layer_on_disk_is_bounded() {
    let scene = Scene::new();
    let executor = scene.start();
    for (id, script) in [
        (
            "big",
            "dd if=/dev/zero of=/big bs=1048576 count=64; sleep 1000",
        ),
        ("many", "i=0; while :; do i=$((i+1)); echo > /tmp-$i; done"),
    ] {
        let spec = ContainerSpec {
            writable: Writable::Disk,
            ..scene.spec(id, script)
        };
        executor.order(spec);
        let ended = executor.ends.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ended.ending, Ending::Signaled { signal: 25 }, "{ended:?}");
        let log = fs::read(scene.scratch.path().join("logs").join(id)).unwrap();
        let log = regatta_model::log::to_text(&log);
        assert!(
            String::from_utf8_lossy(&log).contains("limits.disk"),
            "{log:?}"
        );
        executor.forget(id);
    }
    scene.holds_nothing();
    end(executor);
}

fn leases_stops_and_signals_end_a_container() {
    let scene = Scene::new();
    let executor = scene.start();
    let sleeper = |id: &str| scene.spec(id, "setsid sleep 1000 & exec sleep 1000");
    let ended = |id: &str| {
        let ended = executor.ends.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ended.id, id);
        executor.forget(id);
        ended.ending
    };
    // Two with a lease; only one is renewed, until it is not.
    let leased = |id: &str| ContainerSpec {
        lease_ms: Some(2_000),
        ..sleeper(id)
    };
    executor.order(leased("renewed"));
    let renew = |lease_ms| Request::Renew {
        ids: vec!["renewed".to_owned()],
        lease_ms,
    };
    assert_eq!(executor.ask(renew(600_000)), Message::Done {});
    executor.order(leased("left"));
    assert_eq!(ended("left"), Ending::LeaseEnded);
    assert_eq!(executor.list().len(), 1);
    assert_eq!(executor.ask(renew(1)), Message::Done {});
    assert_eq!(ended("renewed"), Ending::LeaseEnded);

    executor.order(sleeper("stopped"));
    assert_eq!(
        executor.ask(Request::Stop {
            id: "stopped".to_owned()
        }),
        Message::Done {}
    );
    assert_eq!(ended("stopped"), Ending::Stopped);

    executor.order(sleeper("signalled"));
    for signal in [1_000, 0, -9] {
        let wrong = Request::Signal {
            id: "signalled".to_owned(),
            signal,
        };
        assert!(matches!(executor.ask(wrong), Message::Refused { .. }));
    }
    let usr1 = || Request::Signal {
        id: "signalled".to_owned(),
        signal: 10,
    };
    until("its program runs", || {
        (executor.ask(usr1()) == Message::Done {}).then_some(())
    });
    assert_eq!(ended("signalled"), Ending::Signaled { signal: 10 });
    assert!(matches!(executor.ask(usr1()), Message::Refused { .. }));
    scene.holds_nothing();
    end(executor);
}

fn a_flood_of_output_is_cut_and_holds_nobody_up() {
    let scene = Scene::new();
    let executor = scene.start();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", executor.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap()
            .to_owned();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = resident();
    let flood = "echo first; yes | dd bs=65536 count=500; echo last >&2; exit 3";
    executor.order(scene.spec("flood", flood));
    executor.order(scene.spec("other", "echo fine"));
    for _ in 0..2 {
        let ended = executor.ends.recv_timeout(PATIENCE).unwrap();
        let log = fs::read(scene.scratch.path().join("logs").join(&ended.id)).unwrap();
        let text = String::from_utf8(regatta_model::log::to_text(&log)).unwrap();
        if ended.id == "other" {
            assert_eq!(
                (ended.ending, text.as_str()),
                (Ending::Exited { code: 0 }, "fine\n")
            );
            continue;
        }
        assert_eq!(ended.ending, Ending::Exited { code: 3 });
        assert_eq!(
            ended.output_bytes - ended.output_dropped,
            4_096,
            "{ended:?}"
        );
        assert!(log.len() < 8_192, "{} bytes of log", log.len());
        assert!(text.starts_with("first\ny\n"), "{text}");
        assert!(text.contains("bytes of output dropped here"), "{text}");
        assert!(text.trim_end().ends_with("last"), "{text}");
    }
    assert!(
        resident() < before + 4_096,
        "{} kB resident, {before} before",
        resident()
    );
    end(executor);
}

fn end(mut executor: Executor) {
    assert_eq!(executor.ask(Request::Shutdown), Message::Done {});
    assert!(executor.child.wait().unwrap().success());
}

/// Whether a process is there and no zombie.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, after)| after.starts_with('Z'))
    })
}

/// Waits for a condition, within [`PATIENCE`].
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where control groups are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let groups = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        fields
            .next()?
            .starts_with("cgroup")
            .then(|| PathBuf::from(path))
    });
    groups.collect()
}

/// The name of an executor's control groups: FNV-1a of its directory.
fn instance(state: &Path) -> String {
    let bytes = state.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("e-{hash:016x}")
}

/// Random enough to hit other moments each time; the seed is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = std::env::var("LEAKS_SEED").map_or(u64::from(now.subsec_nanos()) | 1, |seed| {
            seed.parse().unwrap()
        });
        println!("LEAKS_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
