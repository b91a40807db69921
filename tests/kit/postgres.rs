//! A PostgreSQL server of a test's own: made from the installed programs, in a directory of its own, gone at the end.
//! May not: touch a cluster that the system runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait_until;

/// The user that the programs of PostgreSQL run as; they refuse to run as root.
const USER: &str = "postgres";

/// One of PostgreSQL's programs, the newest that is installed.
///
/// # Panics
/// When there is none: with the command that mends it.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
        .pop()
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is missing: apt-get install postgresql"))
}

/// A command as PostgreSQL's user, that ends when the test's thread does.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={USER}"))
        .arg(format!("--regid={USER}"))
        .args(["--clear-groups", "--pdeathsig=KILL", "--"])
        .arg(program)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8");
    command
}

fn succeed(mut command: Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// See the module.
pub struct Postgres {
    directory: TempDir,
    port: u16,
    settings: Vec<String>,
    pub process: Process,
}

impl Default for Postgres {
    fn default() -> Self {
        Self::start()
    }
}

impl Postgres {
    /// A new, empty cluster on a free port of the loopback interface.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further settings, like `log_statement=all`.
    pub fn start_with(settings: &[&str]) -> Self {
        crate::need_root();
        Self::make_in(Self::directory(), settings)
    }

    /// On a disk of so many megabytes, which can be filled.
    pub fn start_on_small_disk(megabytes: u32) -> Self {
        crate::need_root();
        let directory = Self::directory();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=0755"))
            .arg("regatta-test")
            .arg(directory.path());
        succeed(mount);
        let mut chown = Command::new("chown");
        chown.arg(USER).arg(directory.path());
        succeed(chown);
        Self::make_in(directory, &["max_wal_size=32MB", "min_wal_size=32MB"])
    }

    /// Takes all the room that is left on its disk; gives what is to be removed to give it back.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn fill_disk(&self) -> PathBuf {
        let path = self.directory.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        path
    }

    fn make_in(directory: TempDir, settings: &[&str]) -> Self {
        let mut initdb = as_user(&program("initdb"));
        initdb
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .args([
                "--username=regatta",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ]);
        succeed(initdb);
        Self::launch_in(
            directory,
            settings.iter().map(ToString::to_string).collect(),
        )
    }

    fn directory() -> TempDir {
        let directory = tempfile::Builder::new()
            .prefix("regatta-postgres.")
            .tempdir_in("/var/tmp")
            .unwrap();
        let mut chown = Command::new("chown");
        chown.arg(USER).arg(directory.path());
        succeed(chown);
        directory
    }

    fn launch_in(directory: TempDir, settings: Vec<String>) -> Self {
        let port = crate::process::free_port();
        let process = Self::launch(directory.path(), port, &settings);
        let postgres = Self {
            directory,
            port,
            settings,
            process,
        };
        postgres.wait();
        postgres
    }

    fn launch(directory: &Path, port: u16, settings: &[String]) -> Process {
        let mut command = as_user(&program("postgres"));
        command
            .arg("-D")
            .arg(directory.join("data"))
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("port={port}")])
            .args([
                "-c",
                &format!("unix_socket_directories={}", directory.display()),
            ])
            // A test kills processes, never the machine's power.
            .args(["-c", "fsync=off"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        Process::start(&mut command, &directory.join("log"))
    }

    fn wait(&self) {
        wait_until("PostgreSQL answers", Duration::from_secs(60), || {
            self.try_psql("SELECT 1").is_some()
        });
    }

    /// A second server that follows this one by streaming replication, and that commits wait for.
    pub fn replica(&self) -> Self {
        let directory = Self::directory();
        let mut copy = as_user(&program("pg_basebackup"));
        copy.args([
            "--host=127.0.0.1",
            "--username=regatta",
            "--no-sync",
            "--checkpoint=fast",
        ])
        .args(["--write-recovery-conf", "--wal-method=stream"])
        .arg(format!("--port={}", self.port))
        .arg("--pgdata")
        .arg(directory.path().join("data"));
        succeed(copy);
        let replica = Self::launch_in(directory, self.settings.clone());
        self.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("SELECT pg_reload_conf()");
        wait_until("the replica follows", Duration::from_secs(60), || {
            self.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
        });
        replica
    }

    /// Makes a replica the primary, at the port where the other one was, which must have ended.
    pub fn promote_at(&mut self, port: u16) {
        self.psql("SELECT pg_promote()");
        self.psql("ALTER SYSTEM RESET synchronous_standby_names");
        self.process.end();
        self.port = port;
        self.start_again();
    }

    /// Starts it again after it was killed or ended.
    pub fn start_again(&mut self) {
        self.process = Self::launch(self.directory.path(), self.port, &self.settings);
        self.wait();
    }

    /// Whether its first process runs.
    pub fn runs(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// `kill -9` of all its processes.
    pub fn kill(&mut self) {
        let pid = self.process.pid();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        self.process.kill();
        // They would see that it is gone, and end, but hold its memory until then.
        drop(
            Command::new("kill")
                .arg("-9")
                .args(children.split_whitespace())
                .stderr(std::process::Stdio::null())
                .status(),
        );
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, for `--database`.
    pub fn url(&self) -> String {
        format!("postgres://regatta@127.0.0.1:{}/postgres", self.port)
    }

    fn try_psql(&self, statement: &str) -> Option<String> {
        let output = as_user(&program("psql"))
            .args([
                "--no-psqlrc",
                "--tuples-only",
                "--no-align",
                "--host=127.0.0.1",
            ])
            .args(["--username=regatta", "--dbname=postgres"])
            .arg(format!("--port={}", self.port))
            .args(["--command", statement])
            .output()
            .expect("psql is missing: apt-get install postgresql-client");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What a statement gives, as text.
    ///
    /// # Panics
    /// When the statement fails.
    pub fn psql(&self, statement: &str) -> String {
        self.try_psql(statement)
            .unwrap_or_else(|| panic!("{statement} failed"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        // Where it is on a disk of its own.
        drop(
            Command::new("umount")
                .arg("-l")
                .arg(self.directory.path())
                .stderr(std::process::Stdio::null())
                .status(),
        );
    }
}
