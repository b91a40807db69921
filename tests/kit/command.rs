//! The command `regatta` as people run it. May not: look inside.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The built command: `REGATTA` names another one.
///
/// # Panics
/// When it is not built: with the command that builds it.
pub fn regatta() -> PathBuf {
    if let Some(path) = std::env::var_os("REGATTA") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap();
    let built = test
        .ancestors()
        .map(|above| above.join("regatta"))
        .find(|path| path.is_file());
    built.expect("the command regatta is not built: cargo build --bins, or ops/test, which does it")
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A data directory of its own, on disk, gone at the end.
pub struct Data {
    directory: tempfile::TempDir,
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    pub fn new() -> Self {
        // Not in /tmp: that may be a tmpfs, and images and overlays are tried on what hosts have.
        let directory = tempfile::Builder::new()
            .prefix("regatta-test.")
            .tempdir_in("/var/tmp")
            .unwrap();
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The command with this data directory and no settings from outside.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_in(&[], arguments)
    }

    /// The same with words before it, like those of [`crate::network::Network::inside`].
    pub fn command_in<S: AsRef<OsStr>>(
        &self,
        before: &[String],
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut words = before.iter().map(PathBuf::from).chain([regatta()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(arguments);
        command
            .env("REGATTA_DATA", self.path())
            .env_remove("REGATTA_SERVER")
            .env_remove("REGATTA_LOG");
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Done {
        Done::of(&mut self.command(arguments))
    }

    /// Writes a file below a directory beside the data, and tells where.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join("files").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A command that ended.
pub struct Done {
    pub shown: String,
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .output()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self {
            shown,
            status: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// # Panics
    /// When it ended with another status: with all that it said.
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown, self.out, self.err
        );
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.shown, self.out))
    }
}
