//! Canaries: small containers whose answer is known, made as an attempt's are. One that fails tells that this host's
//! executor, disk or memory does, before a test has to. May not: take a place from attempts, or run where the host lacks
//! something anyway.

mod program;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use regatta_image::passwd::User;
use regatta_model::container::{Ended, Ending, Limits, Mount, Network, Writable};
use regatta_model::log::Stream;
use regatta_model::wire::{CANARIES_MOST, Canaries};
use tokio::sync::watch;

use crate::exec::{self, LEASE_MS, Place};
use crate::executor::Link;
use crate::failure::blocking;
use crate::host::Host;
use crate::mould::{self, Defaults, Order, Program, RESULTS};
use crate::observe::observe;
use crate::{Layout, executor};

/// How long one may run, in milliseconds; it takes a few, on a host that is not overwhelmed.
const TIMEOUT_MS: u64 = 60_000;
/// How long one may take in all, with its container's making and end.
const WHOLE: Duration = Duration::from_mins(2);
/// Between two that the server asked for.
const PAUSE: Duration = Duration::from_millis(50);
/// After one that failed, and while the host lacks something.
const PAUSE_FAILED: Duration = Duration::from_secs(5);
/// Executors that may go away under one canary before it counts as failed.
const GONE_MOST: u32 = 3;
/// Failures in a row that are each logged; later ones only where they are different.
const LOGGED_MOST: u32 = 3;
/// What it may use: memory and output in bytes, processes, files.
const LIMITS: Limits = Limits {
    cpu_millis: None,
    memory_bytes: Some(32 << 20),
    processes: Some(16),
    disk_bytes: None,
    files: Some(64),
    output_bytes: 4096,
};
/// Longest sentence about a failure, in bytes.
const SENTENCE_MOST: usize = 200;
/// Names of canaries' containers begin so.
pub(crate) const PREFIX: &str = "c-";
/// The file that it writes.
const ANSWER: &str = "answer";

/// What a host lacks before its first canary ended.
const NOT_YET: &str = "its first canary has not ended yet";

/// Where an agent's canaries stand.
#[derive(Debug)]
pub(crate) struct Standing {
    state: Mutex<State>,
    wanted: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct State {
    /// None: this agent runs no canaries.
    counts: Option<Canaries>,
    last: Last,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Last {
    #[default]
    None,
    Passed,
    Failed,
}

impl Standing {
    /// Before the first one, if there are to be any.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wanted: watch::channel(0).0,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There will be canaries: until the first one passed, the host lacks that.
    pub(crate) fn begin(&self) {
        if program::executable().is_some() {
            self.state().counts = Some(Canaries::default());
        } else {
            let architecture = std::env::consts::ARCH;
            tracing::warn!("there is no canary for {architecture}: this host is only observed");
        }
    }

    /// The server wants so many more.
    pub(crate) fn want(&self, canaries: u32) {
        self.wanted.send_replace(canaries.min(CANARIES_MOST));
    }

    /// What the server is told, and what the host lacks by its canaries.
    pub(crate) fn told(&self) -> (Option<Canaries>, Option<String>) {
        let state = self.state();
        let lack = match (&state.counts, state.last) {
            (None, _) | (_, Last::Passed) => None,
            (_, Last::None) => Some(NOT_YET.to_owned()),
            (Some(counts), Last::Failed) => Some(format!("its canary failed: {}", counts.failure)),
        };
        (state.counts.clone(), lack)
    }

    /// One ended. Says whether that changes what the host lacks.
    fn ended(&self, result: Result<(), String>) -> bool {
        let mut state = self.state();
        let before = state.last;
        let counts = state.counts.get_or_insert_default();
        match result {
            Ok(()) => {
                counts.passed += 1;
                state.last = Last::Passed;
            }
            Err(mut failure) => {
                failure.truncate(failure.floor_char_boundary(SENTENCE_MOST));
                counts.failed += 1;
                counts.failure = failure;
                state.last = Last::Failed;
            }
        }
        state.last != before
    }
}

/// Runs canaries for as long as the agent lives: one at first, those that the server asks for, and further ones while the
/// last one failed.
pub(crate) async fn keep(host: Arc<Host>) {
    let Some(executable) = program::executable() else {
        return;
    };
    let executable = Arc::new(executable);
    let mut wanted = host.canary.wanted.subscribe();
    let mut failures = 0_u32;
    let mut said = String::new();
    loop {
        let data = host.layout.root().to_owned();
        let lacks = blocking(move || observe(&data).lacks).await;
        if lacks.is_ok_and(|lacks| !lacks.is_empty()) {
            // It would fail for a reason that is known and told.
            tokio::time::sleep(PAUSE_FAILED).await;
            continue;
        }
        let result = run(&host, &executable).await;
        host.canary
            .wanted
            .send_modify(|wanted| *wanted = wanted.saturating_sub(1));
        let pause = match &result {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!("a canary passed, after {failures} that failed");
                }
                failures = 0;
                said.clear();
                PAUSE
            }
            Err(failure) => {
                failures = failures.saturating_add(1);
                if failures <= LOGGED_MOST || *failure != said {
                    tracing::error!("a canary failed: {failure}");
                    said.clone_from(failure);
                }
                PAUSE_FAILED
            }
        };
        if host.canary.ended(result) {
            host.tell();
        }
        tokio::time::sleep(pause).await;
        if failures == 0 && wanted.wait_for(|wanted| *wanted > 0).await.is_err() {
            return;
        }
    }
}

/// Runs one; an executor that goes away meanwhile is tried again, with the next one.
async fn run(host: &Arc<Host>, executable: &Arc<Vec<u8>>) -> Result<(), String> {
    let mut gone = 0;
    loop {
        let Some(link) = host.link().await else {
            return Err("the agent ends".to_owned());
        };
        let (layout, executable) = (host.layout.clone(), Arc::clone(executable));
        let canary = blocking(move || once(&layout, &link, &executable));
        let ended = tokio::time::timeout(WHOLE, canary).await;
        match ended {
            Err(_) => {
                let seconds = WHOLE.as_secs();
                return Err(format!(
                    "it did not come to an end within {seconds} seconds"
                ));
            }
            Ok(Err(failure)) => return Err(failure.detail),
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(Wrong::Gone(_)))) if gone < GONE_MOST => gone += 1,
            Ok(Ok(Err(Wrong::Answer(why) | Wrong::Gone(why)))) => return Err(why),
        }
    }
}

/// Why a canary did not pass.
enum Wrong {
    /// This is wrong.
    Answer(String),
    /// The executor went away, which says nothing of what it would have done.
    Gone(String),
}

impl From<exec::Error> for Wrong {
    fn from(error: exec::Error) -> Self {
        match error {
            exec::Error::Executor(executor::Error::Gone(_)) => Self::Gone(error.to_string()),
            _ => Self::Answer(error.to_string()),
        }
    }
}

/// Makes a container of nothing but the program, runs it, and compares all that can be seen of it. Blocking.
fn once(layout: &Layout, link: &Link, executable: &[u8]) -> Result<(), Wrong> {
    let disk = |what: &'static str| {
        move |error: std::io::Error| Wrong::Answer(format!("{what} cannot be made: {error}"))
    };
    let place = Place::new(layout)?;
    let directory = place.log();
    let directory = directory.parent().unwrap_or(&directory);
    let (root, results) = (directory.join("root"), directory.join("results"));
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    let program = root.join("canary");
    fs::create_dir(&root)
        .and_then(|()| mode(&root, 0o755))
        .and_then(|()| fs::write(&program, executable))
        .and_then(|()| mode(&program, 0o755))
        .map_err(disk("its layer"))?;
    fs::create_dir(&results)
        .and_then(|()| mode(&results, 0o777))
        .map_err(disk("its results' directory"))?;
    let nonce = nonce();
    let user = User {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: "/".to_owned(),
    };
    let spec = mould::container(Order {
        id: format!("{PREFIX}{}", place.name()),
        defaults: &Defaults::default(),
        layers: vec![root.clone()],
        program: Program::Exactly(vec![
            "/canary".to_owned(),
            nonce.clone(),
            format!("{RESULTS}/{ANSWER}"),
        ]),
        env: Vec::new(),
        user: &user,
        workdir: None,
        network: Network::None,
        mounts: vec![Mount {
            source: results.clone(),
            target: RESULTS.to_owned(),
            writable: true,
        }],
        limits: LIMITS,
        writable: Writable::Disk,
        timeout_ms: TIMEOUT_MS,
        log: place.log(),
        lease_ms: Some(LEASE_MS),
    })
    .map_err(|error| Wrong::Answer(error.to_string()))?;
    let mut printed = Vec::new();
    let mut take = |stream: Stream, bytes: &[u8]| {
        printed.push((stream, bytes.to_vec()));
        Ok(())
    };
    let (_signals, none) = sync_channel(1);
    let ended = exec::to_end(link, spec, &mut take, &none)?;
    judge(&ended).map_err(Wrong::Answer)?;
    let first = nonce.as_bytes().first_chunk::<8>();
    let answer = program::answer(first.copied().unwrap_or_default());
    if printed != [(Stream::Out, answer.clone().into_bytes())] {
        return Err(Wrong::Answer(
            "its output is not what it should be".to_owned(),
        ));
    }
    left(&results, &answer)
        .and_then(|()| match fs::read(&program) {
            Ok(read) if read == executable => Ok(()),
            Ok(_) => Err("its layer is not what was written".to_owned()),
            Err(error) => Err(format!("its layer cannot be read: {error}")),
        })
        .map_err(Wrong::Answer)
}

/// Whether a container ended as the canary does, and changed nothing.
fn judge(ended: &Ended) -> Result<(), String> {
    match &ended.ending {
        Ending::Exited { code } if *code == program::STATUS => {}
        Ending::Exited { code } if *code == program::CANNOT_WRITE => {
            return Err("it could not write its results".to_owned());
        }
        Ending::Exited { code } => return Err(format!("it exited with {code}")),
        Ending::Signaled { signal } => return Err(format!("signal {signal} ended it")),
        Ending::TimedOut => return Err(format!("it did not end within {TIMEOUT_MS} ms")),
        Ending::CannotStart { message } | Ending::HostFault { message } => {
            return Err(format!("it could not be started: {message}"));
        }
        other => return Err(format!("it did not end by itself: {other:?}")),
    }
    match ended.changed.first() {
        Some(changed) => Err(format!("{changed} changed, though it changes nothing")),
        None => Ok(()),
    }
}

/// Whether the results hold the answer, and nothing else.
fn left(results: &Path, answer: &str) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("its results cannot be read: {error}");
    for entry in fs::read_dir(results).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name != ANSWER {
            return Err(format!("{} is among its results", name.display()));
        }
    }
    let read = fs::read(results.join(ANSWER)).map_err(unreadable)?;
    if read == answer.as_bytes() {
        Ok(())
    } else {
        Err("its results are not what they should be".to_owned())
    }
}

/// Sixteen digits that no canary had before.
fn nonce() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    let lot = std::collections::hash_map::RandomState::new();
    format!("{:016x}", lot.build_hasher().finish())
}
