//! Axes whose values are the commits of a git repository: how they are written, and how commits take their place.
//! May not: look into a repository; whoever reads the matrix file does that, and a server never does.

use super::finding::{Finding, did_you_mean, one_of, quote};
use super::read::{Map, Spanned, written};
use super::scalars::{Text, Whole};
use super::template;
use super::written::{File, FileCopy, LongValues, Values, Written};

/// What a range is, for messages.
const RANGE: &str =
    "`A..B`: the commit A and those after it up to B, such as v1.0..v1.4 or v1.0..HEAD";

written! {
    /// An axis whose values are the commits of a git repository.
    CommitValues {
        /// The top of a working tree, or a bare repository; relative to the matrix file.
        git: "git" => Spanned<Text>,
        /// `A..B`: the commit A, then each after it up to B along first parents; HEAD where B is left away.
        range: "range" => Spanned<Text>,
        /// Only each so many'th commit, counted from A, and B; `bisect` takes all of them. 1 where it is left away.
        every: "every" => Option<Spanned<Whole<1, 1_000_000>>>,
        /// Whether the order of the values means something: true where it is left away.
        ordered: "ordered" => Option<Spanned<bool>>,
    }
}

written! {
    /// The files of a commit to copy in.
    Checkout {
        /// The axis whose value is the commit.
        checkout: "checkout" => Spanned<Text>,
        /// An absolute path in the container; takes templates.
        to: "to" => Spanned<Text>,
    }
}

/// The commits that an axis asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRange {
    /// The repository's path, as it was written: relative to the matrix file.
    pub repository: String,
    /// The oldest commit, as a revision. Not checked: it may begin with `-`.
    pub first: String,
    /// The newest commit, as a revision. Not checked either.
    pub last: String,
    /// Only each so many'th, counted from the oldest, and the newest; 1 at least.
    pub every: u64,
}

impl CommitRange {
    /// The text by which [`crate::run::Pins::files`] has the files of the commit with this value.
    pub fn source(&self, value: &str) -> String {
        source(&self.repository, value)
    }
}

/// A commit as the value of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The value: its hash, abbreviated so that it is unambiguous.
    pub value: String,
    /// What it is to people: its subject, on one line. May be empty.
    pub title: String,
}

/// What of an axis of commits is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Its repository.
    Repository,
    /// The first revision of its range.
    First,
    /// The last one.
    Last,
    /// The range.
    Range,
}

/// Why there are no commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCommits {
    /// What it is about.
    pub about: About,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What else is known, such as what git said.
    pub note: Option<String>,
    /// The way out.
    pub help: Option<String>,
}

/// Looks commits up, oldest first.
pub type Look<'a> = dyn FnMut(&CommitRange) -> Result<Vec<Commit>, NoCommits> + 'a;

/// Puts commits in the place of axes that ask for them, and files in that of checkouts; says which there are not.
pub(super) fn expand(written: &mut Written, look: &mut Look<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut repositories: Vec<(String, String)> = Vec::new();
    for (name, values) in &mut written.axes.value.entries {
        let Values::Commits(commits) = &values.value else {
            continue;
        };
        if let Some(long) = listed(commits, look, &mut findings) {
            repositories.push((name.value.clone(), commits.git.value.0.clone()));
            values.value = Values::Long(long);
        }
    }
    for file in written.files.iter_mut().flat_map(|files| &mut files.value) {
        let File::Checkout(checkout) = &file.value else {
            continue;
        };
        let axis = &checkout.checkout;
        let own = repositories.iter().find(|(name, _)| *name == axis.value.0);
        // A checkout of another axis is told with all else that is wrong.
        if let Some((name, repository)) = own {
            let from = source(repository, &format!("${{{{ matrix.{name} }}}}"));
            let from = Spanned {
                at: axis.at,
                value: Text(from),
            };
            let to = checkout.to.clone();
            file.value = File::Copy(FileCopy { from, to });
        }
    }
    findings
}

/// The commits as the values of an axis.
fn listed(
    commits: &CommitValues,
    look: &mut Look<'_>,
    findings: &mut Vec<Finding>,
) -> Option<LongValues> {
    let (git, range) = (&commits.git, &commits.range);
    let before = findings.len();
    for text in [git, range] {
        template::refuse(&text.value.0, text.at, findings);
    }
    let asked = match range.value.0.split_once("..") {
        Some((first, last)) if !first.is_empty() && !last.starts_with('.') => CommitRange {
            repository: git.value.0.clone(),
            first: first.to_owned(),
            last: if last.is_empty() { "HEAD" } else { last }.to_owned(),
            every: every(commits),
        },
        _ => {
            let message = format!("a range of commits cannot be {}", quote(&range.value.0));
            findings.push(Finding::new(range.at, message).expected(RANGE));
            return None;
        }
    };
    if findings.len() > before {
        return None;
    }
    match look(&asked) {
        Ok(list) => Some(long(list, commits)),
        Err(wrong) => {
            let (at, part) = match wrong.about {
                About::Repository => (git.at, git.value.0.as_str()),
                About::First => (range.at, asked.first.as_str()),
                About::Last => (range.at, asked.last.as_str()),
                About::Range => (range.at, range.value.0.as_str()),
            };
            let mut finding = Finding::new(at, wrong.message).at_part(part);
            if let Some(note) = wrong.note {
                finding = finding.remark(note);
            }
            findings.push(finding.help_if(wrong.help));
            None
        }
    }
}

fn every(commits: &CommitValues) -> u64 {
    let every = commits.every.as_ref();
    every
        .and_then(|every| u64::try_from(every.value.0).ok())
        .unwrap_or(1)
}

/// An axis with these values, as if they had been written where the range is.
fn long(list: Vec<Commit>, commits: &CommitValues) -> LongValues {
    let at = commits.range.at;
    let (mut values, mut titles) = (Vec::new(), Vec::new());
    for commit in list {
        let value = Text(commit.value.clone());
        values.push(Spanned { at, value });
        if !commit.title.is_empty() {
            let (key, value) = (commit.value, Text(commit.title));
            titles.push((Spanned { at, value: key }, Spanned { at, value }));
        }
    }
    let titles = (!titles.is_empty()).then_some(Spanned {
        at,
        value: Map { entries: titles },
    });
    LongValues {
        values: Spanned { at, value: values },
        ordered: Some(Spanned {
            at,
            value: commits.ordered.as_ref().is_none_or(|said| said.value),
        }),
        titles,
    }
}

/// As pip writes the source of a package in a repository.
fn source(repository: &str, commit: &str) -> String {
    format!("git+{repository}@{commit}")
}

/// Says that an axis asks for commits where nobody has looked them up.
pub(super) fn unknown(axis: &str, commits: &CommitValues) -> Finding {
    let message = format!("the commits of the axis {} are not known here", quote(axis));
    Finding::new(commits.git.at, message)
        .remark("a repository is looked into where its matrix file is, and by the command only")
        .help("submit the matrix file with `regatta submit`, or list the commits as `values`")
}

/// Says what is wrong with a checkout that [`expand`] left: its axis has no commits.
pub(super) fn misplaced(checkout: &Checkout, axes: &[&str]) -> Finding {
    let name = &checkout.checkout.value.0;
    let at = checkout.checkout.at;
    let known = || axes.iter().copied();
    if !known().any(|axis| axis == name) {
        let finding = Finding::new(at, format!("unknown axis {} in `checkout`", quote(name)));
        return finding
            .expected(one_of(known()))
            .help_if(did_you_mean(name, known()));
    }
    let message = format!("the values of the axis {} are no commits", quote(name));
    let finding = Finding::new(at, message);
    finding.help(format!(
        "write `{name}: {{git: PATH, range: A..B}}` in `axes`"
    ))
}
