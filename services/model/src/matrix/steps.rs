//! Checks what is run and in what: image, files, steps, environment, volumes, limits, globs, labels; and
//! takes their templates apart. May not: look at cells.

use std::collections::BTreeMap;

use crate::container::{Limits, Network};
use crate::plan::VolumePlan;

use super::commits;
use super::finding::{Finding, Spot, quote};
use super::plan::{CommandMould, LimitsChange, Mould, StepMould, is_absolute, is_user};
use super::read::{Map, Spanned};
use super::scalars::Text;
use super::template::{self, Template};
use super::written::{self, File, Run, Written};

/// How long set-up and test may take where nothing is said, in milliseconds.
pub const TIMEOUT_DEFAULT_MS: u64 = 600_000;

/// Processes at once where nothing is said.
pub const PROCESSES_DEFAULT: u64 = 4096;

/// Bytes in the writable layer where nothing is said.
pub const DISK_DEFAULT: u64 = 10 << 30;

/// Open files of each process where nothing is said.
pub const FILES_DEFAULT: u64 = 65536;

/// Bytes of output kept where nothing is said.
pub const OUTPUT_DEFAULT: u64 = 16 << 20;

/// What an absolute path is, for messages.
const ABSOLUTE: &str = "an absolute path without `..`, such as /src";

/// Checks texts against the axes, and collects what is wrong.
pub(super) struct Checker<'a> {
    pub(super) axes: Vec<&'a str>,
    pub(super) findings: Vec<Finding>,
}

impl Checker<'_> {
    /// A text with templates.
    fn template(&mut self, text: &Spanned<Text>) -> Template {
        Template::parse(&text.value.0, text.at, &self.axes, &mut self.findings)
    }

    /// A text with templates that may not be empty.
    fn filled(&mut self, text: &Spanned<Text>, what: &str) -> Template {
        if text.value.0.trim().is_empty() {
            self.findings
                .push(Finding::new(text.at, format!("{what} is empty")));
        }
        self.template(text)
    }

    /// A path with templates; what stands before the first one is checked.
    fn path(&mut self, text: &Spanned<Text>, what: &str) -> Template {
        let path = self.template(text);
        let fits = path.constant().map_or_else(
            || path.head().is_empty() || is_absolute(path.head()),
            is_absolute,
        );
        if !fits {
            let message = format!("{what} cannot be {}", quote(&text.value.0));
            self.findings
                .push(Finding::new(text.at, message).expected(ABSOLUTE));
        }
        path
    }

    /// An environment with templates.
    pub(super) fn env(&mut self, env: Option<&Spanned<Map<Text>>>) -> Vec<(String, Template)> {
        let mut moulds = Vec::new();
        for (name, value) in env.into_iter().flat_map(|env| env.value.iter()) {
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let fits = name.value.starts_with(first)
                && name
                    .value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !fits {
                let message = format!("{} cannot name an environment variable", quote(&name.value));
                let expected = "letters, digits and `_`, beginning with a letter or `_`";
                self.findings
                    .push(Finding::new(name.at, message).expected(expected));
            } else if name.value.starts_with("REGATTA_") {
                let message = format!("{} is set by Regatta itself", quote(&name.value));
                self.findings
                    .push(Finding::new(name.at, message).help("choose another name"));
            }
            moulds.push((name.value.clone(), self.template(value)));
        }
        moulds
    }

    /// A step of the matrix; `network` is its default.
    fn step(&mut self, step: &written::Step, network: Network) -> StepMould {
        let run = match &step.run.value {
            Run::Shell(text) => {
                let text = Spanned {
                    at: step.run.at,
                    value: text.clone(),
                };
                CommandMould::Shell(self.filled(&text, "`run`"))
            }
            Run::Exec(argv) => {
                if let Some(program) = argv.first().filter(|text| text.value.0.trim().is_empty()) {
                    self.findings
                        .push(Finding::new(program.at, "the program's name is empty"));
                }
                CommandMould::Exec(argv.iter().map(|text| self.template(text)).collect())
            }
        };
        let user = step.user.as_ref().map(|text| {
            let user = self.template(text);
            if user.constant().is_some_and(|user| !is_user(user)) {
                let message = format!("`user` cannot be {}", quote(&text.value.0));
                let expected = "a name or uid[:gid], such as tester or 1000:1000";
                self.findings
                    .push(Finding::new(text.at, message).expected(expected));
            }
            user
        });
        StepMould {
            run,
            env: self.env(step.env.as_ref()),
            user,
            workdir: step
                .workdir
                .as_ref()
                .map(|text| self.path(text, "`workdir`")),
            timeout_ms: step
                .timeout
                .as_ref()
                .map_or(TIMEOUT_DEFAULT_MS, |time| time.value.0),
            network: step
                .network
                .as_ref()
                .map_or(network, |network| network.value),
        }
    }

    fn volumes(&mut self, written: &Written) -> Vec<VolumePlan> {
        let mut volumes = Vec::new();
        let mut places: BTreeMap<String, Spot> = BTreeMap::new();
        for volume in written.volumes.iter().flat_map(|volumes| &volumes.value) {
            let (name, at) = (&volume.value.name, &volume.value.at);
            template::refuse(&name.value.0, name.at, &mut self.findings);
            template::refuse(&at.value.0, at.at, &mut self.findings);
            if name.value.0.parse::<crate::HostName>().is_err() {
                let message = format!("a volume cannot be named {}", quote(&name.value.0));
                let expected =
                    "letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
                self.findings
                    .push(Finding::new(name.at, message).expected(expected));
            }
            let place = at.value.0.trim_end_matches('/').to_owned();
            if !is_absolute(&at.value.0) || place.is_empty() {
                let message = format!("a volume cannot be mounted at {}", quote(&at.value.0));
                let expected = "an absolute path below /, without `..`";
                self.findings
                    .push(Finding::new(at.at, message).expected(expected));
            }
            if let Some(first) = places.insert(place.clone(), at.at) {
                let message = format!("two volumes are mounted at {}", quote(&place));
                self.findings
                    .push(Finding::new(at.at, message).note("the first is here", first));
            }
            volumes.push(VolumePlan {
                name: name.value.0.clone(),
                at: place,
                writable: volume
                    .value
                    .mode
                    .as_ref()
                    .is_none_or(|m| m.value == written::Mode::Rw),
            });
        }
        volumes
    }

    /// Globs below a directory of the container.
    fn globs(&mut self, globs: Option<&Spanned<Vec<Spanned<Text>>>>, below: &str) -> Vec<String> {
        let globs = globs.into_iter().flat_map(|globs| &globs.value);
        globs
            .map(|glob| {
                let text = &glob.value.0;
                template::refuse(text, glob.at, &mut self.findings);
                let wrong = if text.is_empty() {
                    Some("it is empty")
                } else if text.starts_with('/') {
                    Some("it is absolute")
                } else if text.split('/').any(|part| part == "..") {
                    Some("it leaves the directory")
                } else if !is_balanced(text) {
                    Some("a bracket or brace is not closed")
                } else {
                    None
                };
                if let Some(wrong) = wrong {
                    let message = format!("the pattern {} cannot be used: {wrong}", quote(text));
                    let expected =
                        format!("a pattern relative to ${below}, such as *.xml or logs/**");
                    self.findings
                        .push(Finding::new(glob.at, message).expected(expected));
                }
                text.clone()
            })
            .collect()
    }

    fn labels(&mut self, written: &Written) {
        for (name, value) in written.labels.iter().flat_map(|labels| labels.value.iter()) {
            template::refuse(&value.value.0, value.at, &mut self.findings);
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
            if name.value.is_empty() || !name.value.chars().all(fits) {
                let message = format!("{} cannot name a label", quote(&name.value));
                let expected = "letters, digits, `-`, `_`, `.` and `/`";
                self.findings
                    .push(Finding::new(name.at, message).expected(expected));
            }
            self.printable(value, "a label's value");
        }
    }

    fn owner(&mut self, owner: &Spanned<Text>) {
        template::refuse(&owner.value.0, owner.at, &mut self.findings);
        if owner.value.0.parse::<crate::Owner>().is_err() {
            let message = format!("an owner cannot be named {}", quote(&owner.value.0));
            let expected =
                "up to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
            self.findings
                .push(Finding::new(owner.at, message).expected(expected));
        }
    }

    /// A text that stands in lists and tables.
    pub(super) fn printable(&mut self, text: &Spanned<Text>, what: &str) {
        const LONGEST: usize = 1000;
        if text.value.0.chars().any(char::is_control) {
            let message = format!("{what} holds a control character");
            self.findings
                .push(Finding::new(text.at, message).expected("a text on one line"));
        } else if text.value.0.len() > LONGEST {
            let message = format!(
                "{what} has {} bytes, more than {LONGEST}",
                text.value.0.len()
            );
            self.findings
                .push(Finding::new(text.at, message).expected("a short text"));
        }
    }

    /// Everything but the adjustments.
    pub(super) fn mould(&mut self, written: &Written) -> Mould {
        if let Some(name) = &written.name {
            template::refuse(&name.value.0, name.at, &mut self.findings);
            self.printable(name, "`name`");
        }
        self.labels(written);
        if let Some(owner) = &written.owner {
            self.owner(owner);
        }
        let mut files = Vec::new();
        for file in written.files.iter().flat_map(|files| &files.value) {
            match &file.value {
                File::Copy(copy) => {
                    let from = self.filled(&copy.from, "`from`");
                    files.push((from, self.path(&copy.to, "`to`")));
                }
                File::Checkout(checkout) => {
                    let finding = commits::misplaced(checkout, &self.axes);
                    self.findings.push(finding);
                }
            }
        }
        let setup = written.setup.as_ref();
        Mould {
            image: self.filled(&written.image, "`image`"),
            files,
            env: self.env(written.env.as_ref()),
            setup: setup.map(|setup| self.step(&setup.value, Network::Host)),
            test: self.step(&written.test_step(), Network::None),
            volumes: self.volumes(written),
            limits: limits(written.limits.as_ref().map(|limits| &limits.value)).over(&Limits {
                cpu_millis: None,
                memory_bytes: None,
                processes: Some(PROCESSES_DEFAULT),
                disk_bytes: Some(DISK_DEFAULT),
                files: Some(FILES_DEFAULT),
                output_bytes: OUTPUT_DEFAULT,
            }),
            results: match (&written.results, written.test.value.tool()) {
                // A tool that was asked for its results has to have written them.
                (None, Some(tool)) => vec![tool.results.to_owned()],
                (results, _) => self.globs(results.as_ref(), "REGATTA_RESULTS"),
            },
            artifacts: self.globs(written.artifacts.as_ref(), "REGATTA_ARTIFACTS"),
            keep: written
                .keep
                .as_ref()
                .map(|keep| keep.value)
                .unwrap_or_default(),
            adjust: Vec::new(),
            known: Vec::new(),
        }
    }
}

/// The limits that are given.
pub(super) fn limits(limits: Option<&written::Limits>) -> LimitsChange {
    let Some(limits) = limits else {
        return LimitsChange::default();
    };
    let whole = |number: i64| u64::try_from(number).ok();
    LimitsChange {
        limits: Limits {
            cpu_millis: limits.cpus.as_ref().map(|cpus| cpus.value.0),
            memory_bytes: limits.memory.as_ref().map(|size| size.value.0),
            processes: limits
                .processes
                .as_ref()
                .and_then(|number| whole(number.value.0)),
            disk_bytes: limits.disk.as_ref().map(|size| size.value.0),
            files: limits
                .files
                .as_ref()
                .and_then(|number| whole(number.value.0)),
            output_bytes: 0,
        },
        output_bytes: limits.output.as_ref().map(|size| size.value.0),
    }
}

/// Whether every bracket and brace of a pattern is closed.
fn is_balanced(pattern: &str) -> bool {
    let (mut class, mut braces, mut escaped) = (false, 0usize, false);
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            '[' => class = true,
            '{' if !class => braces += 1,
            '}' if !class => match braces.checked_sub(1) {
                Some(open) => braces = open,
                None => return false,
            },
            _ => {}
        }
    }
    !class && braces == 0 && !escaped
}
