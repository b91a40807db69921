//! JUnit XML. May not: expand an entity beyond the five of XML and character references, or fetch anything.
//!
//! Only what the dialects share decides: `testcase` and its children. `failure` and `error` fail it; `skipped` skips it;
//! `flakyFailure` and `flakyError` (Surefire, nextest) mean that it failed and then passed; `rerunFailure` and `rerunError` tell of
//! further tries of one that failed. A suite that counts failures and has no case that failed is a problem.

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use regatta_model::case::CaseStatus;

use super::WITHIN;
use super::collect::Collector;
use crate::excerpt;

/// What an element is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Suite,
    Case,
    /// A child that tells how its case (or suite) ended.
    Ending(Ending),
    /// The stack of one try.
    Stack,
    /// What a case wrote.
    Output,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Skipped,
    Flaky,
    Rerun,
    Error,
    Failure,
}

impl Element {
    fn of(name: &str) -> Self {
        match name {
            "testsuites" | "testsuite" => Self::Suite,
            "testcase" => Self::Case,
            "failure" => Self::Ending(Ending::Failure),
            "error" => Self::Ending(Ending::Error),
            "skipped" => Self::Ending(Ending::Skipped),
            "flakyFailure" | "flakyError" => Self::Ending(Ending::Flaky),
            "rerunFailure" | "rerunError" => Self::Ending(Ending::Rerun),
            "stackTrace" => Self::Stack,
            "system-out" | "system-err" => Self::Output,
            _ => Self::Other,
        }
    }
}

/// A case while its element is open.
#[derive(Default)]
struct Case {
    key: String,
    /// The decisive child: the highest of those that were met.
    ending: Option<Ending>,
    summary: String,
    details: String,
    /// What it wrote, for a failure that says nothing (CTest).
    output: String,
    /// CTest says that it did not run.
    not_run: bool,
    /// How long it took, in seconds.
    seconds: Option<f64>,
}

/// A suite while its element is open.
#[derive(Default)]
struct Suite {
    name: String,
    /// It has the attribute `disabled`, as node's have.
    disabled: bool,
    /// Failures and errors that it counts.
    counted: u64,
    /// Failures of all suites before it.
    failures_before: u64,
}

/// What one file is read with.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    collector: &'a mut Collector,
    /// Open elements, the outermost first.
    open: Vec<Element>,
    /// The open suites, the outermost first.
    suites: Vec<Suite>,
    case: Option<Case>,
    /// The text of the open ending is kept in the case.
    keeps_text: bool,
    position: u64,
}

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let mut file = File {
        path,
        text,
        collector,
        open: Vec::new(),
        suites: Vec::new(),
        case: None,
        keeps_text: false,
        position: 0,
    };
    if let Err(problem) = file.run() {
        let line = file.line();
        file.collector
            .problem(&format!("{path}: line {line}: {problem}"));
    }
}

impl File<'_> {
    fn line(&self) -> usize {
        let position = usize::try_from(self.position)
            .unwrap_or(usize::MAX)
            .min(self.text.len());
        let before = self.text.as_bytes().get(..position).unwrap_or_default();
        before.split(|byte| *byte == b'\n').count()
    }

    fn run(&mut self) -> Result<(), String> {
        let mut reader = Reader::from_str(self.text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.allow_dangling_amp = true;
        let mut met_element = false;
        loop {
            let event = reader.read_event();
            self.position = match event {
                Ok(_) => reader.buffer_position(),
                Err(_) => reader.error_position(),
            };
            match event.map_err(|error| format!("not well-formed XML: {error}"))? {
                Event::Start(start) => {
                    if !met_element && Element::of(start.local_name().as_ref()) == Element::Other {
                        let name = excerpt::cut(start.local_name().into_inner(), 50).to_owned();
                        return Err(format!(
                            "<{name}> is no JUnit XML: expected <testsuites> or <testsuite>"
                        ));
                    }
                    met_element = true;
                    self.start(&start)?;
                }
                // Empty elements come as a start and an end.
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
                Event::End(_) => self.end()?,
                Event::Text(text) => self.add_text(&text),
                Event::CData(text) => self.add_text(&text),
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    Ok(Some(c)) => self.add_text(c.encode_utf8(&mut [0; 4])),
                    _ => match resolve_predefined_entity(&reference) {
                        Some(text) => self.add_text(text),
                        None => self.add_text(&format!("&{};", &*reference)),
                    },
                },
                Event::Eof if !met_element => return Err("no element".into()),
                Event::Eof if !self.open.is_empty() => {
                    return Err("the file ends within an element: it was cut off".into());
                }
                Event::Eof => return Ok(()),
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let most = self.collector.limits.depth;
        if self.open.len() >= most {
            return Err(format!("more than {most} elements within one another"));
        }
        let element = Element::of(start.local_name().as_ref());
        self.open.push(element);
        match element {
            Element::Suite if self.case.is_none() => {
                let counted = ["failures", "errors"].iter().filter_map(|attribute| {
                    self.attribute(start, attribute)?.trim().parse::<u64>().ok()
                });
                self.suites.push(Suite {
                    name: self.attribute(start, "name").unwrap_or_default(),
                    disabled: self.attribute(start, "disabled").is_some(),
                    counted: counted.fold(0, u64::saturating_add),
                    failures_before: self.collector.failures(),
                });
            }
            Element::Case if self.case.is_none() => self.case = Some(self.open_case(start)),
            Element::Ending(ending) => self.open_ending(start, ending)?,
            _ => {}
        }
        Ok(())
    }

    /// The key of a case.
    fn key(&self, start: &BytesStart<'_>) -> String {
        let name = self.attribute(start, "name").unwrap_or_default();
        let suite = self.suites.last();
        let suite_name = suite.map(|suite| suite.name.trim()).unwrap_or_default();
        let class = self.attribute(start, "classname");
        match class.as_deref().map(str::trim) {
            // What is no test in a class (pytest: a module that cannot be imported).
            // gotestsum so names a package that could not be built.
            Some("") if name == "TestMain" && !suite_name.is_empty() => suite_name.to_owned(),
            Some("") => name,
            // node says no more of a class, and has its suites within one another.
            Some("test") if suite.is_none_or(|suite| suite.disabled || suite_name.is_empty()) => {
                let suites = self.suites.iter().map(|suite| suite.name.trim());
                let names = suites.chain([name.trim()]).filter(|name| !name.is_empty());
                names.collect::<Vec<_>>().join(WITHIN)
            }
            // mocha-junit-reporter repeats the title as the class.
            Some(class)
                if name
                    .trim()
                    .strip_suffix(class)
                    .is_some_and(|n| n.ends_with(' ')) =>
            {
                name
            }
            Some(class) if class != name.trim() => format!("{class}::{name}"),
            // Without a class, or with the whole title in both: behind the file, else without a class the suite.
            class => {
                let file = self.attribute(start, "file");
                let own = without_shard(name.trim());
                let suite = class.is_none().then(|| suite_name.to_owned());
                // Bazel names a suite as its only case.
                let suite = suite.filter(|suite| *suite != name.trim());
                match file.or(suite).filter(|prefix| !prefix.trim().is_empty()) {
                    Some(prefix) => format!("{prefix}::{name}"),
                    None => own.to_owned(),
                }
            }
        }
    }

    fn open_case(&self, start: &BytesStart<'_>) -> Case {
        // GoogleTest, CTest and others tell of a case that did not run, or not well, by an attribute alone.
        let endings = ["status", "result"].iter().filter_map(|attribute| {
            let value = self.attribute(start, attribute)?.to_ascii_lowercase();
            match value.as_str() {
                "notrun" | "skipped" | "suppressed" | "disabled" | "ignored" => {
                    Some(Ending::Skipped)
                }
                "fail" | "failed" | "failure" => Some(Ending::Failure),
                "error" | "errored" => Some(Ending::Error),
                _ => None,
            }
        });
        let name = self.attribute(start, "name");
        let not_run = self.attribute(start, "status").as_deref() == Some("notrun")
            && name.is_some()
            && self.attribute(start, "classname") == name;
        Case {
            ending: endings.max(),
            key: self.key(start),
            not_run,
            seconds: self
                .attribute(start, "time")
                .and_then(|time| seconds(&time)),
            ..Case::default()
        }
    }

    /// Takes a child that tells how its case ended, where it tells more than the ones before.
    fn open_ending(&mut self, start: &BytesStart<'_>, ending: Ending) -> Result<(), String> {
        let parent = self
            .open
            .len()
            .checked_sub(2)
            .and_then(|at| self.open.get(at))
            .copied();
        let summary = self
            .attribute(start, "message")
            .or_else(|| self.attribute(start, "type"));
        let summary = summary.unwrap_or_default();
        match (parent, &mut self.case) {
            (Some(Element::Case), Some(case)) => {
                // CTest calls skipped what it could not run as well, and then fails.
                let could_not = ending == Ending::Skipped
                    && case.not_run
                    && !summary.is_empty()
                    && !summary.starts_with("SKIP_");
                let ending = if could_not { Ending::Error } else { ending };
                let bare = case.summary.is_empty() && case.details.is_empty();
                let more = |before| ending > before || bare && ending == before;
                self.keeps_text = case.ending.is_none_or(more);
                if self.keeps_text {
                    case.ending = Some(ending);
                    case.summary = summary;
                    case.details.clear();
                }
            }
            // The suite itself broke: a case of its name says so.
            (Some(Element::Suite), None) if matches!(ending, Ending::Error | Ending::Failure) => {
                let name = self.suites.last().map(|suite| suite.name.trim());
                let key = name.filter(|name| !name.is_empty()).unwrap_or("(suite)");
                let key = key.to_owned();
                self.collector.case(&key, CaseStatus::Error, &summary, "")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Element::Suite) if self.case.is_none() => {
                let Some(suite) = self.suites.pop() else {
                    return Ok(());
                };
                if suite.counted > 0 && self.collector.failures() == suite.failures_before {
                    let (name, counted) = (excerpt::cut(&suite.name, 200), suite.counted);
                    let (path, line) = (self.path, self.line());
                    self.collector.problem(&format!("{path}: line {line}: the suite {name:?} counts {counted} failures, and no case in it failed"));
                }
            }
            Some(Element::Ending(_)) => self.keeps_text = false,
            Some(Element::Case) if !self.open.contains(&Element::Case) => {
                if let Some(case) = self.case.take() {
                    let status = match case.ending {
                        None => CaseStatus::Passed,
                        Some(Ending::Skipped) => CaseStatus::Skipped,
                        Some(Ending::Flaky) => CaseStatus::Flaky,
                        Some(Ending::Error) => CaseStatus::Error,
                        Some(Ending::Rerun | Ending::Failure) => CaseStatus::Failed,
                    };
                    let bare = case.summary.is_empty() && case.details.trim().is_empty();
                    let details = if bare && status.is_failure() {
                        &case.output
                    } else {
                        &case.details
                    };
                    self.collector.lasts(case.seconds);
                    self.collector
                        .case(&case.key, status, &case.summary, details)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        let most = self.collector.limits.text_bytes;
        // Not that of elements within it, such as the output of a single try; Surefire's stack is one.
        let innermost = matches!(self.open.last(), Some(Element::Ending(_) | Element::Stack));
        let output = matches!(self.open.as_slice(), [.., Element::Case, Element::Output]);
        if let (true, Some(case)) = (output, &mut self.case) {
            case.output
                .push_str(excerpt::cut(text, most.saturating_sub(case.output.len())));
        }
        if let (true, Some(case)) = (self.keeps_text && innermost, &mut self.case) {
            case.details
                .push_str(excerpt::cut(text, most.saturating_sub(case.details.len())));
        }
    }

    /// An attribute's value, unescaped, and cut to the limit.
    fn attribute(&self, start: &BytesStart<'_>, name: &str) -> Option<String> {
        let limits = &self.collector.limits;
        // Without the check for duplicates, which compares each attribute with all before.
        let mut attributes = start.attributes();
        attributes.with_checks(false);
        let found = attributes
            .take(limits.attributes)
            .filter_map(Result::ok)
            .find(|attribute| attribute.key.local_name().into_inner() == name)?;
        let raw = excerpt::cut(&found.value, limits.text_bytes);
        Some(unescape(raw).map_or_else(|_| raw.to_owned(), std::borrow::Cow::into_owned))
    }
}

/// A `time` in seconds; some write thousands with commas.
fn seconds(time: &str) -> Option<f64> {
    time.trim().replace(',', "").parse().ok()
}

/// A name without the shard that Bazel adds to it: `_shard_2/4`.
fn without_shard(name: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once("_shard_") {
        Some((front, shard))
            if shard
                .split_once('/')
                .is_some_and(|(n, m)| number(n) && number(m)) =>
        {
            front
        }
        _ => name,
    }
}
