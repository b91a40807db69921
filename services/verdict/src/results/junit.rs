//! JUnit XML. May not: expand an entity beyond the five of XML and character references, or fetch anything.
//!
//! Only what the dialects share decides: `testcase` and its children. `failure` and `error` fail it; `skipped` skips it;
//! `flakyFailure` and `flakyError` (Surefire, nextest) mean that it failed and then passed; `rerunFailure` and `rerunError` tell of
//! further tries of one that failed.

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use regatta_model::case::CaseStatus;

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
}

/// What one file is read with.
struct File<'a> {
    text: &'a str,
    collector: &'a mut Collector,
    /// Open elements, the outermost first.
    open: Vec<Element>,
    /// Names of the open suites.
    suites: Vec<String>,
    case: Option<Case>,
    /// The text of the open ending is kept in the case.
    keeps_text: bool,
    position: u64,
}

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let mut file = File {
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
                self.suites
                    .push(self.attribute(start, "name").unwrap_or_default());
            }
            Element::Case if self.case.is_none() => self.case = Some(self.open_case(start)),
            Element::Ending(ending) => self.open_ending(start, ending)?,
            _ => {}
        }
        Ok(())
    }

    fn open_case(&self, start: &BytesStart<'_>) -> Case {
        let name = self.attribute(start, "name").unwrap_or_default();
        let key = match self.attribute(start, "classname") {
            // What is no test in a class (pytest: a module that cannot be imported).
            Some(class) if class.trim().is_empty() => name,
            Some(class) if class.trim() != name.trim() => format!("{class}::{name}"),
            // Without a class, or with the whole title in both: behind the file, else without a class the suite.
            class => {
                let file = self.attribute(start, "file");
                let suite = class
                    .is_none()
                    .then(|| self.suites.last().cloned())
                    .flatten();
                match file.or(suite).filter(|prefix| !prefix.trim().is_empty()) {
                    Some(prefix) => format!("{prefix}::{name}"),
                    None => name,
                }
            }
        };
        // GoogleTest and others tell of a case that did not run by an attribute alone.
        let not_run = ["status", "result"].iter().any(|attribute| {
            let value = self
                .attribute(start, attribute)
                .unwrap_or_default()
                .to_ascii_lowercase();
            matches!(
                value.as_str(),
                "notrun" | "skipped" | "suppressed" | "disabled" | "ignored"
            )
        });
        let ending = not_run.then_some(Ending::Skipped);
        Case {
            key,
            ending,
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
                self.keeps_text = case.ending.is_none_or(|before| ending > before);
                if self.keeps_text {
                    case.ending = Some(ending);
                    case.summary = summary;
                    case.details.clear();
                }
            }
            // The suite itself broke: a case of its name says so.
            (Some(Element::Suite), None) if matches!(ending, Ending::Error | Ending::Failure) => {
                let name = self.suites.last().cloned().unwrap_or_default();
                let key = if name.trim().is_empty() {
                    "(suite)".to_owned()
                } else {
                    name
                };
                self.collector.case(&key, CaseStatus::Error, &summary, "")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Element::Suite) if self.case.is_none() => {
                self.suites.pop();
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
                    self.collector
                        .case(&case.key, status, &case.summary, &case.details)?;
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
