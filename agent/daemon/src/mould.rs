//! Makes a container's order: from what an image says, and what a plan, `exec` or a build step wants, to
//! one `ContainerSpec`. The only place where one is made. May not: touch a disk or decide host ids.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regatta_image::Store;
use regatta_image::passwd::User;
use regatta_model::container::{ContainerSpec, Limits, Mount, Network, Process, Writable};
use regatta_model::plan::Shard;
use regatta_model::{AttemptId, Digest};

/// The name that `hostname` gives in every container: the same everywhere, since tests print it.
pub const HOSTNAME: &str = "regatta";

/// PATH where the image sets none, as Docker has it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Time between SIGTERM and SIGKILL, in milliseconds.
pub const GRACE_MS: u64 = 10_000;

/// Output kept where nothing else is said, in bytes.
pub const OUTPUT_BYTES: u64 = 16 << 20;

/// Where results are written, inside.
pub const RESULTS: &str = "/regatta/results";

/// What a test that runs one shard of a cell has to touch, below the results.
pub const SHARD_STATUS: &str = ".shard-status";

/// Where a test finds the plan of its shards, inside.
pub const SHARDS: &str = "/regatta/shards.tsv";

/// Where artifacts are written, inside.
pub const ARTIFACTS: &str = "/regatta/artifacts";

/// Most arguments and most environment variables of a container.
pub const WORDS_MOST: usize = 10_000;

/// Most bytes of all arguments and environment variables together (the kernel's own limit is near).
pub const WORDS_BYTES_MOST: usize = 1 << 20;

/// What an image says of the containers made from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Program before `cmd`.
    pub entrypoint: Vec<String>,
    /// Arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `name|uid[:group|gid]`; none: root.
    pub user: Option<String>,
    /// None: `/`.
    pub workdir: Option<String>,
}

impl Defaults {
    /// What the image with this manifest says. Blocking.
    pub fn read(store: &Store, manifest: &Digest) -> Result<Self, regatta_image::Error> {
        let config = store.config(manifest)?;
        let Some(config) = config.config().as_ref() else {
            return Ok(Self::default());
        };
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Self {
            env: config.env().iter().flatten().map(pair).collect(),
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            user: given(config.user()),
            workdir: given(config.working_dir()),
        })
    }
}

/// Which program a container runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// These words, whatever the image says: set-up, tests, build steps.
    Exactly(Vec<String>),
    /// As `docker run` has it: the image's entrypoint, then these words, or the image's own where there are
    /// none.
    Arguments(Vec<String>),
}

/// What is wanted of a container besides what its image says.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Its name.
    pub id: String,
    /// What its image says.
    pub defaults: &'a Defaults,
    /// Its layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Its program.
    pub program: Program,
    /// Added to the image's environment; a later one wins.
    pub env: Vec<(String, String)>,
    /// Who runs it, resolved in its layers.
    pub user: &'a User,
    /// None: the image's.
    pub workdir: Option<&'a str>,
    /// Its network.
    pub network: Network,
    /// What it sees of the host.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
    /// Where its changes go.
    pub writable: Writable,
    /// When it must have ended, in milliseconds.
    pub timeout_ms: u64,
    /// Where its output goes.
    pub log: PathBuf,
    /// How long it may run without renewal, in milliseconds.
    pub lease_ms: Option<u64>,
}

/// The order cannot be a container. The matrix's or the image's doing, never the host's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No words to run.
    #[error(
        "there is no command to run: the image has neither ENTRYPOINT nor CMD, and none was given"
    )]
    NoCommand,
    /// A name or value that no process can get.
    #[error("the {what} {text:?} cannot be given to a process: {why}")]
    BadWord {
        /// Argument, variable, directory.
        what: &'static str,
        /// It, cut to 100 characters.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too much.
    #[error(
        "arguments and environment have {words} words and {bytes} bytes; at most {WORDS_MOST} and \
         {WORDS_BYTES_MOST} are possible (put long texts into a file)"
    )]
    TooLong {
        /// How many there are.
        words: usize,
        /// How long all are.
        bytes: usize,
    },
}

/// Makes the order for an executor.
pub fn container(order: Order<'_>) -> Result<ContainerSpec, Error> {
    let defaults = order.defaults;
    let argv = match order.program {
        Program::Exactly(words) => words,
        Program::Arguments(words) => {
            let words = if words.is_empty() {
                defaults.cmd.clone()
            } else {
                words
            };
            defaults.entrypoint.iter().cloned().chain(words).collect()
        }
    };
    if argv.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    let mut env = vec![("PATH".to_owned(), PATH.to_owned())];
    set(&mut env, "HOME", &order.user.home);
    for (name, value) in defaults.env.iter().chain(&order.env) {
        set(&mut env, name, value);
    }
    let workdir = order.workdir.or(defaults.workdir.as_deref()).unwrap_or("/");
    let workdir = if workdir.starts_with('/') {
        workdir.to_owned()
    } else {
        format!("/{workdir}")
    };
    check(&argv, &env, &workdir)?;
    Ok(ContainerSpec {
        id: order.id,
        layers: order.layers,
        writable: order.writable,
        process: Process {
            argv,
            env,
            workdir,
            uid: order.user.uid,
            gid: order.user.gid,
            groups: order.user.groups.clone(),
        },
        hostname: HOSTNAME.to_owned(),
        network: order.network,
        mounts: order.mounts,
        limits: order.limits,
        timeout_ms: order.timeout_ms,
        grace_ms: GRACE_MS,
        log: order.log,
        lease_ms: order.lease_ms,
    })
}

/// The environment that Regatta gives a test besides the plan's.
pub fn attempt_env(attempt: &AttemptId, axes: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut env = vec![
        ("CI".to_owned(), "true".to_owned()),
        ("REGATTA_RUN".to_owned(), attempt.run.to_string()),
        ("REGATTA_CELL".to_owned(), attempt.cell.to_string()),
        ("REGATTA_ATTEMPT".to_owned(), attempt.ordinal.to_string()),
        ("REGATTA_RESULTS".to_owned(), RESULTS.to_owned()),
        ("REGATTA_ARTIFACTS".to_owned(), ARTIFACTS.to_owned()),
    ];
    for (axis, value) in axes {
        env.push((
            format!("REGATTA_AXIS_{}", axis_variable(axis)),
            value.clone(),
        ));
    }
    env
}

/// What tells a test which shard of its cell it runs, by Bazel's protocol, and where the plan is that says which case runs where.
pub fn shard_env(shard: Shard) -> Vec<(String, String)> {
    let mut env = vec![
        ("TEST_TOTAL_SHARDS", shard.total.to_string()),
        ("TEST_SHARD_INDEX", shard.index.to_string()),
        (
            "TEST_SHARD_STATUS_FILE",
            format!("{RESULTS}/{SHARD_STATUS}"),
        ),
    ];
    env.extend(shard.plan.map(|_| ("REGATTA_SHARDS", SHARDS.to_owned())));
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// An axis' name as part of a variable's: upper case, other characters as `_`.
fn axis_variable(axis: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    axis.chars().map(letter).collect()
}

/// Sets a variable in its place, or at the end.
fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

/// What `execve` would refuse, said in a sentence before.
fn check(argv: &[String], env: &[(String, String)], workdir: &str) -> Result<(), Error> {
    let bad = |what, text: &str, why| {
        Err(Error::BadWord {
            what,
            text: text.chars().take(100).collect(),
            why,
        })
    };
    for word in argv {
        if word.contains('\0') {
            return bad("argument", word, "it holds a NUL character");
        }
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return bad(
                "variable",
                name,
                "a name is not empty and has neither '=' nor NUL",
            );
        }
        if value.contains('\0') {
            return bad("value of the variable", name, "it holds a NUL character");
        }
    }
    if workdir.contains('\0') {
        return bad("working directory", workdir, "it holds a NUL character");
    }
    let words = argv.len() + env.len();
    let bytes = argv.iter().map(|word| word.len() + 1).sum::<usize>()
        + env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum::<usize>();
    if words > WORDS_MOST || bytes > WORDS_BYTES_MOST {
        return Err(Error::TooLong { words, bytes });
    }
    Ok(())
}
