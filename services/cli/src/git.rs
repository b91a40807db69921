//! What a git repository has, asked of the program `git`: the commits of a range, the files of a commit. May not: write to
//! a repository, fetch for it, or run what it names; only plumbing is called, which knows no hooks, filters and aliases.

mod tree;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use regatta_model::matrix::{About, Commit, CommitRange, NoCommits};

pub(crate) use tree::Elsewhere;

/// Most commits of an axis: each may be a source of files, of which a run has as many.
pub(crate) const COMMITS_MOST: u64 = 256;

/// Most commits among which `bisect` looks for one; it checks out few of them.
pub(crate) const BISECTED_COMMITS_MOST: u64 = 4096;

/// Which commits of a range are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that `every` leaves, [`COMMITS_MOST`] at most.
    Chosen,
    /// All, [`BISECTED_COMMITS_MOST`] at most.
    All,
}

impl Which {
    const fn limit(self) -> (&'static str, u64) {
        match self {
            Self::Chosen => ("COMMITS_MOST", COMMITS_MOST),
            Self::All => ("BISECTED_COMMITS_MOST", BISECTED_COMMITS_MOST),
        }
    }
}

/// Longest title of a commit, in bytes.
const TITLE_MOST: usize = 100;

/// Longest line of a list, in bytes.
const LINE_MOST: u64 = 1 << 20;

/// A repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// The git directory.
    directory: PathBuf,
    /// As the matrix names it.
    shown: String,
}

/// A commit as git lists it.
pub(crate) struct Listed {
    /// Its whole hash.
    pub(crate) hash: String,
    pub(crate) commit: Commit,
    /// None where it has none, and where a shallow clone ends.
    first_parent: Option<String>,
}

/// Something wrong with a part of what was asked for.
fn wrong(about: About, message: String) -> NoCommits {
    let (note, help) = (None, None);
    NoCommits {
        about,
        message,
        note,
        help,
    }
}

impl Repository {
    /// The one whose working tree, or whose git directory, is at `path` below `base`.
    pub(crate) fn open(base: &Path, path: &str) -> Result<Self, NoCommits> {
        let wrong = |message| wrong(About::Repository, message);
        let place = std::fs::canonicalize(base.join(path)).map_err(|error| NoCommits {
            note: Some("it is relative to the matrix file".into()),
            ..wrong(format!("cannot find the repository `{path}`: {error}"))
        })?;
        let mut git = git();
        // What lies around it is another repository.
        git.env(
            "GIT_CEILING_DIRECTORIES",
            place.parent().unwrap_or(Path::new("/")),
        );
        git.arg("-C").arg(&place);
        git.args(["rev-parse", "--absolute-git-dir"]);
        let output = git.output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NoCommits {
                help: Some("install it (apt-get install git), or list commits as `values`".into()),
                ..wrong("commits are looked up with git, which is not installed".into())
            },
            _ => wrong(format!("cannot run git: {error}")),
        })?;
        if !output.status.success() {
            return Err(NoCommits {
                note: said(&output.stderr),
                help: Some("name the top of a working tree, or a bare repository".into()),
                ..wrong(format!("`{path}` is no git repository"))
            });
        }
        Ok(Self {
            directory: OsStr::from_bytes(output.stdout.trim_ascii_end()).into(),
            shown: path.to_owned(),
        })
    }

    /// The commits of a range, oldest first.
    pub(crate) fn range(
        &self,
        asked: &CommitRange,
        which: Which,
    ) -> Result<Vec<Listed>, NoCommits> {
        let (limit, most) = which.limit();
        let every = match which {
            Which::Chosen => asked.every.max(1),
            Which::All => 1,
        };
        let first = self.resolve(&asked.first, About::First)?;
        let last = self.resolve(&asked.last, About::Last)?;
        let shown = format!("{}..{}", asked.first, asked.last);
        let wrong = |message| wrong(About::Range, message);
        let failed = || NoCommits {
            help: Some(format!("`git -C {} fsck` tells more", self.shown)),
            ..wrong(format!("git cannot list the commits of `{shown}`"))
        };
        // The first one is never left out, and the last one waits until it is known to be that.
        let (mut list, mut count, mut waiting) = (Vec::new(), 1_u64, None);
        self.list(&["--no-walk", &first], |one| list.push(one))
            .ok_or_else(failed)?;
        let mut oldest = None;
        let mut kept = 1;
        self.list(
            &["--first-parent", "--reverse", &format!("{first}..{last}")],
            |one| {
                oldest.get_or_insert_with(|| one.first_parent.clone());
                waiting = if count % every == 0 {
                    kept += 1;
                    if kept <= most {
                        list.push(one);
                    }
                    None
                } else {
                    Some(one)
                };
                count += 1;
            },
        )
        .ok_or_else(failed)?;
        kept += u64::from(waiting.is_some());
        list.extend(waiting);
        let Some(parent) = oldest else {
            let message = if first == last {
                format!("the range `{shown}` is empty: both ends are the same commit")
            } else {
                format!("the range `{shown}` is empty: it ends before it begins")
            };
            let help = "write the older commit first, A..B";
            return Err(NoCommits {
                help: Some(help.into()),
                ..wrong(message)
            });
        };
        if parent.as_ref() != Some(&first) {
            return Err(self.beside(asked, (&first, &last)));
        }
        if kept > most {
            let shorter = "write a shorter range".to_owned();
            return Err(NoCommits {
                help: Some(match which {
                    // The first one, and the last one where it is no multiple.
                    Which::Chosen => {
                        let every = count.div_ceil(most - 2);
                        format!("{shorter}, or take some of its commits only: `every: {every}`")
                    }
                    Which::All => shorter,
                }),
                ..wrong(format!(
                    "the range `{shown}` gives {kept} commits, more than {most} (limit {limit})"
                ))
            });
        }
        Ok(list)
    }

    /// Why the first commit of a range is not on the line that leads to the last.
    fn beside(&self, asked: &CommitRange, (first, last): (&str, &str)) -> NoCommits {
        let (first_shown, last_shown) = (&asked.first, &asked.last);
        let mut ancestor = self.git();
        ancestor.args(["merge-base", "--is-ancestor", first, last]);
        let merged = ancestor
            .output()
            .is_ok_and(|output| output.status.success());
        let note = match (merged, self.is_shallow()) {
            (_, true) => "its history is cut off there".to_owned(),
            (true, _) => format!(
                "`{first_shown}` came in by a merge, and a range follows the first parent of each commit"
            ),
            (false, _) => format!("`{last_shown}` does not descend from it"),
        };
        NoCommits {
            note: Some(note),
            help: Some(if self.is_shallow() {
                self.deepen()
            } else {
                format!("begin with a commit that `git log --first-parent {last_shown}` lists")
            }),
            ..wrong(
                About::First,
                format!(
                    "`{first_shown}` is not on the way from `{last_shown}` back along first parents"
                ),
            )
        }
    }

    /// The hash of the commit that a revision means.
    fn resolve(&self, revision: &str, about: About) -> Result<String, NoCommits> {
        let unknown = |note| NoCommits {
            note,
            help: Some(if self.is_shallow() {
                self.deepen()
            } else {
                "give a tag, a branch or a hash; tags of the origin come with `git fetch --tags`"
                    .into()
            }),
            ..wrong(
                about,
                format!("`{}` has no commit `{revision}`", self.shown),
            )
        };
        if revision.contains(char::is_control) {
            return Err(unknown(None));
        }
        let mut git = self.git();
        git.args(["rev-parse", "--verify", "--end-of-options"]);
        git.arg(format!("{revision}^{{commit}}"));
        let output = git.output().map_err(|_| unknown(None))?;
        let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let is_hash = !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if output.status.success() && is_hash {
            Ok(hash)
        } else {
            Err(unknown(said(&output.stderr)))
        }
    }

    /// Gives each commit that `rev-list` lists; none where it fails.
    fn list(&self, arguments: &[&str], mut take: impl FnMut(Listed)) -> Option<()> {
        let mut git = self.git();
        git.args(["rev-list", "--encoding=UTF-8", "--abbrev=12"]);
        git.arg("--format=%H%x00%h%x00%P%x00%<(80,trunc)%s");
        let mut running = Running::start(git.args(arguments))?;
        let mut out = running.out()?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = out.by_ref().take(LINE_MOST).read_until(b'\n', &mut line);
            if read.ok()? == 0 {
                return running.end();
            }
            // Each is headed by a line `commit ...`, which tells nothing.
            if let Some(listed) = listed(&line) {
                take(listed);
            }
        }
    }

    /// Whether its history is cut off.
    fn is_shallow(&self) -> bool {
        let mut git = self.git();
        git.args(["rev-parse", "--is-shallow-repository"]);
        git.output().is_ok_and(|output| output.stdout == b"true\n")
    }

    fn deepen(&self) -> String {
        format!(
            "the clone is shallow; `git -C {} fetch --unshallow` brings the rest",
            self.shown
        )
    }

    /// Git for this repository.
    fn git(&self) -> Command {
        let mut git = git();
        git.arg("--git-dir").arg(&self.directory);
        git
    }
}

/// Git, without what the environment and the user's own settings would add: the same repository gives the same answer, and
/// nothing is fetched for it. Whose it is does not matter, since nothing that it names is run.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ALLOW_PROTOCOL", "")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["-c", "safe.directory=*"])
        .args(["-c", "core.hooksPath=/dev/null"])
        .args(["-c", "core.fsmonitor=false"])
        .stdin(Stdio::null());
    git
}

/// What git said last, for a note.
fn said(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    let last = last.trim_start_matches("fatal: ");
    (last != "Needed a single revision").then(|| format!("git says: {last}"))
}

/// `HASH NUL VALUE NUL PARENTS NUL SUBJECT`
fn listed(line: &[u8]) -> Option<Listed> {
    let line = String::from_utf8_lossy(line);
    let mut parts = line.splitn(4, '\0');
    let (hash, value) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let first_parent = parts
        .next()?
        .split(' ')
        .next()
        .filter(|hash| !hash.is_empty());
    let first_parent = first_parent.map(str::to_owned);
    let title = title(parts.next()?);
    Some(Listed {
        hash,
        commit: Commit { value, title },
        first_parent,
    })
}

/// A subject on one line, not too long, and without what would turn a terminal's writing direction.
fn title(subject: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut title = String::new();
    for c in subject.trim().chars() {
        let c = if c.is_control() || turns(c) {
            '\u{fffd}'
        } else {
            c
        };
        if title.len() + c.len_utf8() > TITLE_MOST {
            break;
        }
        title.push(c);
    }
    title
}

/// A git that is listened to. It ends with this.
struct Running(Child);

impl Running {
    /// None where it cannot be started.
    fn start(git: &mut Command) -> Option<Self> {
        let git = git.stdout(Stdio::piped()).stderr(Stdio::null());
        git.spawn().ok().map(Self)
    }

    /// What it prints; once.
    fn out(&mut self) -> Option<BufReader<ChildStdout>> {
        self.0.stdout.take().map(BufReader::new)
    }

    /// None where it failed.
    fn end(mut self) -> Option<()> {
        drop(self.0.stdin.take());
        self.0.wait().ok()?.success().then_some(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What has ended already is not there to be ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
