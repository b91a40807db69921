//! Servers and agents as processes that a test starts, kills and starts again. May not: leave one behind.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::command::Data;
use crate::wait_until;

/// Tells a server or an agent at which step to abort.
const CRASH_AT: &str = "REGATTA_CRASH_AT";

/// A port of the loopback interface that nobody uses now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .unwrap()
}

/// A process that ends with the test.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Self {
            child: command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, like `STOP`.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits for its end, which must come by itself.
    pub fn wait(&mut self) {
        wait_until(
            "the process ends by itself",
            Duration::from_secs(120),
            || self.child.try_wait().is_ok_and(|status| status.is_some()),
        );
    }

    /// Waits for its end, which must be that it aborts.
    pub fn abort(&mut self) {
        self.wait();
        let status = self.child.try_wait().unwrap();
        let signal = status.and_then(|status| status.signal());
        assert_eq!(signal, Some(6), "the process aborts: {status:?}");
    }

    /// SIGTERM, and waits for its end.
    pub fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            drop(Command::new("kill").arg(self.pid().to_string()).status());
            wait_until(
                "the process ends after SIGTERM",
                Duration::from_secs(60),
                || self.child.try_wait().is_ok_and(|status| status.is_some()),
            );
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server on a port of its own, which it keeps when it is started again.
pub struct Server {
    pub data: Data,
    pub url: String,
    pub process: Process,
    before: Vec<String>,
    options: Vec<String>,
}

impl Server {
    /// With a lease of so many seconds.
    pub fn start(lease: u64) -> Self {
        Self::start_with(lease, &[])
    }

    /// With further options of the command.
    pub fn start_with(lease: u64, options: &[&str]) -> Self {
        Self::start_in(&[], "127.0.0.1:0", lease, options)
    }

    /// With words before the command, and where it listens.
    pub fn start_in(before: &[String], listen: &str, lease: u64, options: &[&str]) -> Self {
        let data = Data::new();
        let lease = ["--lease".to_owned(), lease.to_string()];
        let options = options.iter().map(ToString::to_string);
        let options: Vec<String> = lease.into_iter().chain(options).collect();
        let process = Self::launch(&data, before, listen, &options, None);
        let url = Self::address(&data);
        Self {
            data,
            url,
            process,
            before: before.to_vec(),
            options,
        }
    }

    fn launch(
        data: &Data,
        before: &[String],
        listen: &str,
        options: &[String],
        crash: Option<&str>,
    ) -> Process {
        let mut command = data.command_in(before, ["server", "--verbose", "--listen", listen]);
        command.args(options);
        command.envs(crash.map(|at| (CRASH_AT, at)));
        Process::start(&mut command, &data.path().join("server.log"))
    }

    fn address(data: &Data) -> String {
        let file = data.path().join("server/address");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        wait_until("the server listens", Duration::from_secs(30), || {
            !read().is_empty()
        });
        read()
    }

    /// `kill -9`, then the same again on the same port.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.restart();
    }

    /// Starts it again on the same port after it was killed.
    pub fn restart(&mut self) {
        self.launch_again(None);
        Self::address(&self.data);
    }

    /// The same, to abort at a step; that may be before it listens.
    pub fn restart_to_crash(&mut self, at: &str) {
        self.launch_again(Some(at));
    }

    fn launch_again(&mut self, crash: Option<&str>) {
        drop(std::fs::remove_file(
            self.data.path().join("server/address"),
        ));
        let listen = self.url.trim_start_matches("http://").to_owned();
        self.process = Self::launch(&self.data, &self.before, &listen, &self.options, crash);
    }

    /// What it answers to GET; none while it is away.
    pub fn get(&self, path: &str) -> Option<Value> {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--fail",
                "--max-time",
                "20",
                &format!("{}{path}", self.url),
            ])
            .output()
            .expect("curl is missing: apt-get install curl");
        if output.status.success() {
            serde_json::from_slice(&output.stdout).ok()
        } else {
            None
        }
    }

    pub fn text(&self, path: &str) -> String {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                &format!("{}{path}", self.url),
            ])
            .output()
            .expect("curl is missing: apt-get install curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether it says of itself that it leads.
    pub fn leads(&self) -> bool {
        self.text("/metrics").contains("\nregatta_leader 1\n")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("server.log")).unwrap_or_default()
    }
}

/// A host: an agent with a data directory of its own, and the executor that it starts.
pub struct Host {
    pub data: Data,
    pub name: String,
    pub process: Process,
    before: Vec<String>,
    url: String,
    slots: u32,
}

impl Host {
    pub fn start(server: &Server, name: &str, slots: u32) -> Self {
        Self::start_at(&server.url, name, slots)
    }

    /// With the URL of its server, or of several.
    pub fn start_at(url: &str, name: &str, slots: u32) -> Self {
        Self::start_in(&[], url, name, slots)
    }

    /// With words before the command.
    pub fn start_in(before: &[String], url: &str, name: &str, slots: u32) -> Self {
        let data = Data::new();
        let process = Self::launch(&data, before, url, name, slots, None);
        Self {
            data,
            name: name.to_owned(),
            process,
            before: before.to_vec(),
            url: url.to_owned(),
            slots,
        }
    }

    fn launch(
        data: &Data,
        before: &[String],
        url: &str,
        name: &str,
        slots: u32,
        crash: Option<&str>,
    ) -> Process {
        let slots = slots.to_string();
        let arguments = [
            "agent",
            "--verbose",
            "--server",
            url,
            "--name",
            name,
            "--slots",
            &slots,
        ];
        let mut command = data.command_in(before, arguments);
        command.envs(crash.map(|at| (CRASH_AT, at)));
        Process::start(&mut command, &data.path().join("agent.log"))
    }

    /// `kill -9` of the agent alone; its executor goes on.
    pub fn kill_agent(&mut self) {
        self.process.kill();
    }

    pub fn restart_agent(&mut self) {
        self.launch_again(None);
    }

    /// Starts it again, to abort at a step.
    pub fn restart_agent_to_crash(&mut self, at: &str) {
        self.launch_again(Some(at));
    }

    fn launch_again(&mut self, crash: Option<&str>) {
        let (data, before, url) = (&self.data, &self.before, &self.url);
        self.process = Self::launch(data, before, url, &self.name, self.slots, crash);
    }

    /// The process that listens on this host's executor socket.
    pub fn executor_pid(&self) -> Option<u32> {
        let socket = self.data.path().join("executor/socket");
        let socket = socket.to_str().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids: Vec<u32> = processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
                words.contains(&b"executor".as_slice()) && words.contains(&socket.as_bytes())
            })
            .collect();
        // Its zygotes were forked from it and carry its words: it is the one whose parent does not.
        pids.sort_unstable();
        let parent = |pid: &u32| -> Option<u32> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
        };
        let first = pids
            .iter()
            .find(|pid| parent(pid).is_some_and(|parent| !pids.contains(&parent)));
        first.copied()
    }

    /// `kill -9` of the executor; the agent goes on.
    pub fn kill_executor(&self) {
        let pid = self.executor_pid().expect("an executor runs");
        assert!(
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(pid) = self.executor_pid() {
            drop(Command::new("kill").arg(pid.to_string()).status());
            let alive = || Path::new(&format!("/proc/{pid}")).exists();
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while alive() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
