//! RUN: a command in a container on the layers so far; what it changes becomes the next layer. May not: start
//! a container itself.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use regatta_model::Digest;
use regatta_model::container::{Ending, Mount as HostMount, Network};
use serde_json::json;

use super::flags::Mount;
use super::image::DEFAULT_PATH;
use super::layer::Layer;
use super::lines::heredoc_word;
use super::parse::{Command, Node};
use super::stage::{Builder, Stage};
use super::{BuildError, Step, place, settings};
use crate::commit;
use crate::error::{Error, Result};
use crate::passwd;
use crate::progress::Progress;

/// How many of the last lines of output a failing command is told with.
const TAIL_LINES: usize = 20;
/// Longest line of output that is told, in bytes; longer ones are cut.
const LINE_MOST: usize = 2_000;
/// The variables for proxies, which need no ARG and change no key.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl Builder<'_> {
    pub(super) fn run(
        &mut self,
        stage: &mut Stage,
        node: &Node,
        command: &Command,
        mounts: &[Mount],
        network: bool,
    ) -> Result<(), BuildError> {
        let argv = settings::argv(stage, &with_heredocs(node, command));
        let mut env: Vec<_> = stage
            .args
            .iter()
            .filter(|(name, _)| !PROXIES.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let set = stage.draft.env();
        env.retain(|(name, _)| !set.iter().any(|(known, _)| known == name));
        env.extend(set);
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let workdir = stage.draft.workdir().to_owned();
        let user = stage.draft.text("User").to_owned();
        let mut caches = Vec::new();
        for mount in mounts {
            let target = place::join(&workdir, &self.expand(stage, node, &mount.target)?);
            let id = match &mount.id {
                Some(id) => self.expand(stage, node, id)?,
                None => target.clone(),
            };
            caches.push(Cache { target, id, mount });
        }
        let told: Vec<_> = caches
            .iter()
            .map(|cache| (&cache.target, &cache.id))
            .collect();
        let what = json!({
            "run": argv, "env": env, "workdir": workdir, "user": user, "caches": told,
            "network": network,
        });
        self.step(stage, node, &what, |builder, stage| {
            let layers = builder.layers(&stage.draft)?;
            let user = passwd::resolve(&layers, &user)
                .map_err(|e| builder.at_keyword(node, e.to_string()))?;
            if !env.iter().any(|(name, _)| name == "HOME") {
                env.push(("HOME".to_owned(), user.home.clone()));
            }
            for (name, value) in &builder.options.args {
                if PROXIES.contains(&name.as_str()) && !env.iter().any(|(known, _)| known == name) {
                    env.push((name.clone(), value.clone()));
                }
            }
            let (mounts, _locks) = builder.mounts(&caches)?;
            let scratch = builder.store.scratch()?;
            let keep = scratch.path().join("upper");
            DirBuilder::new()
                .mode(0o755)
                .create(&keep)
                .map_err(|e| Error::at("make", &keep, e))?;
            let tail = Tail {
                progress: builder.progress,
                state: Mutex::default(),
            };
            let step = Step {
                layers,
                argv,
                env,
                workdir,
                user,
                mounts,
                keep: keep.clone(),
                network: if network {
                    Network::Host
                } else {
                    Network::None
                },
                output: &|bytes| tail.take(bytes),
            };
            let ended = builder.runner.run(step);
            builder.judge(node, ended, &tail)?;
            Ok(builder.keep(&keep)?)
        })
    }

    /// The host's directories for caches, and the locks of those that only one command may use.
    fn mounts(&self, caches: &[Cache<'_>]) -> Result<(Vec<HostMount>, Vec<File>)> {
        let mut mounts = Vec::new();
        let mut locks = Vec::new();
        let parent = &self.options.cache_mounts;
        for cache in caches {
            let source = parent.join(directory_name(&cache.id));
            if !source.is_dir() {
                std::fs::create_dir_all(&source).map_err(|e| Error::at("make", &source, e))?;
                let set = || {
                    chown(&source, Some(cache.mount.uid), Some(cache.mount.gid))?;
                    let mode = std::fs::Permissions::from_mode(cache.mount.mode);
                    std::fs::set_permissions(&source, mode)
                };
                set().map_err(|e| Error::at("set the owner of", &source, e))?;
            }
            if cache.mount.locked {
                locks.push(lock(&source)?);
            }
            mounts.push(HostMount {
                source,
                target: cache.target.clone(),
                writable: cache.mount.writable,
            });
        }
        Ok((mounts, locks))
    }

    fn judge(
        &self,
        node: &Node,
        ended: Result<Ending, Box<dyn std::error::Error + Send + Sync>>,
        tail: &Tail<'_>,
    ) -> Result<(), BuildError> {
        let message = match ended {
            Ok(Ending::Exited { code: 0 }) => return Ok(()),
            Ok(Ending::Exited { code }) => format!("the command ended with exit status {code}"),
            Ok(Ending::Signaled { signal }) => format!("the command was ended by signal {signal}"),
            Ok(Ending::TimedOut) => "the command took longer than a step may".to_owned(),
            Ok(Ending::OutOfMemory) => {
                "the command used more memory than there is for it".to_owned()
            }
            Ok(Ending::Stopped | Ending::LeaseEnded) => "the command was stopped".to_owned(),
            Ok(Ending::CannotStart { message }) => format!("the command cannot start: {message}"),
            Ok(Ending::HostFault { message }) => {
                format!("this host cannot run the command: {message}")
            }
            Ok(Ending::ExecutorLost) => "the executor ended while it ran the command".to_owned(),
            Err(e) => format!("the command could not be run: {e}"),
        };
        let mut error = self.at_keyword(node, message);
        error.output = tail.lines();
        Err(error.into())
    }

    fn keep(&self, upper: &Path) -> Result<Option<Layer>> {
        commit::layer_from(self.store, upper, self.options.epoch)
    }
}

struct Cache<'a> {
    target: String,
    id: String,
    mount: &'a Mount,
}

/// A cache's directory: its name where that can be one, else its digest.
fn directory_name(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.chars().all(fits) && !id.starts_with('.') && (1..=64).contains(&id.len()) {
        return id.to_owned();
    }
    Digest::of(id.as_bytes()).hex()
}

fn lock(directory: &Path) -> Result<File> {
    let mut path = directory.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::create(&path).map_err(|e| Error::at("open", &path, e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| Error::at("lock", &path, e))?;
    Ok(file)
}

/// The command with its heredocs: one alone is a script; others are the shell's own matter.
fn with_heredocs(node: &Node, command: &Command) -> Command {
    let (Command::Shell(text), [first, ..]) = (command, node.logical.heredocs.as_slice()) else {
        return command.clone();
    };
    if heredoc_word(text.trim()).is_none() {
        let mut whole = text.clone();
        for heredoc in &node.logical.heredocs {
            whole.push('\n');
            whole.push_str(&heredoc.body);
            whole.push_str(&heredoc.name);
        }
        whole.push('\n');
        return Command::Shell(whole);
    }
    let Some(interpreter) = first
        .body
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("#!"))
    else {
        return Command::Shell(first.body.clone());
    };
    // The script is handed to its interpreter as a file that is nowhere in the image.
    let interpreter = interpreter.trim();
    let (name, body) = (&first.name, &first.body);
    Command::Exec(vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        format!("exec {interpreter} /dev/fd/9 9<<'{name}'\n{body}{name}\n"),
    ])
}

/// Passes output on line by line, and keeps its end.
struct Tail<'a> {
    progress: &'a dyn Progress,
    state: Mutex<TailState>,
}

#[derive(Default)]
struct TailState {
    partial: Vec<u8>,
    lines: VecDeque<String>,
}

impl Tail<'_> {
    fn take(&self, bytes: &[u8]) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MOST.saturating_sub(state.partial.len());
            state
                .partial
                .extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
            if piece.ends_with(b"\n") {
                let line = state.end_line();
                self.progress.note(&format!("  | {line}"));
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let Ok(mut state) = self.state.lock() else {
            return Vec::new();
        };
        if !state.partial.is_empty() {
            state.end_line();
        }
        state.lines.iter().cloned().collect()
    }
}

impl TailState {
    fn end_line(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.partial).into_owned();
        // A progress bar overwrites its line; its last state is what counts.
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
        let line: String = text
            .chars()
            .filter(|c| *c == '\t' || !c.is_control())
            .collect();
        self.partial.clear();
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        line
    }
}
