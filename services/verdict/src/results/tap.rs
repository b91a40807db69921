//! TAP 13 and 14. May not: take a number, a duration or the order for a name.
//!
//! A case's name is its description, behind those of the subtests around it. Text that is no TAP is passed over, as the
//! format asks. A plan that does not hold, a missing plan, `Bail out!` and a cut diagnostic are problems.

use regatta_model::case::CaseStatus;

use super::WITHIN;
use super::collect::Collector;
use crate::excerpt;

/// Most bytes of one YAML diagnostic that are kept.
const DIAGNOSTIC_MOST: usize = 8 << 10;

/// Lines of a diagnostic that tell no reason: they would stand before it.
const ASIDE: [&str; 8] = [
    "duration_ms:",
    "location:",
    "failureType:",
    "type:",
    "code:",
    "error: |",
    "message: |",
    "at:",
];

/// Lines at the front within which TAP must begin.
const FRONT: usize = 50;

/// A line of TAP.
enum Line<'a> {
    Plan { count: u64, skip: Option<&'a str> },
    Point(Point),
    Subtest(&'a str),
    BailOut(&'a str),
    Version,
    Other,
}

struct Point {
    description: String,
    status: CaseStatus,
    reason: String,
}

/// A case, until the whole file is read.
struct Case {
    name: String,
    status: CaseStatus,
    summary: String,
    details: String,
}

/// One level of subtests.
#[derive(Default)]
struct Level {
    /// Where its cases begin.
    first_case: usize,
    planned: Option<u64>,
    points: u64,
    /// Its name, where a comment gives it.
    name: Option<String>,
}

/// Whether a text is TAP.
pub(super) fn is_tap(text: &str) -> bool {
    text.lines()
        .take(FRONT)
        .any(|text| !matches!(line(text.trim_end()), Line::Other | Line::Subtest(_)))
}

/// Reads one file; `suite` stands before all names.
pub(super) fn read(path: &str, suite: Option<&str>, text: &str, collector: &mut Collector) {
    let mut tap = Tap {
        levels: vec![Level::default()],
        cases: Vec::new(),
        problems: Vec::new(),
        skipped: None,
    };
    let depth = collector.limits.depth;
    let most = collector.limits.cases;
    tap.lines(text, depth, most);
    if let Some(reason) = tap.skipped.filter(|_| tap.cases.is_empty()) {
        // The whole file is skipped, and says so: that is a result.
        let name = suite.unwrap_or(path).to_owned();
        let status = CaseStatus::Skipped;
        tap.cases.push(Case {
            name,
            status,
            summary: reason,
            details: String::new(),
        });
    } else if let Some(suite) = suite {
        tap.cases
            .iter_mut()
            .for_each(|case| case.name = format!("{suite}::{}", case.name));
    }
    for (line, problem) in tap.problems {
        collector.problem(&format!("{path}: line {line}: {problem}"));
    }
    for case in tap.cases {
        if let Err(beyond) = collector.case(&case.name, case.status, &case.summary, &case.details) {
            collector.problem(&format!("{path}: {beyond}"));
            return;
        }
    }
}

struct Tap {
    levels: Vec<Level>,
    cases: Vec<Case>,
    problems: Vec<(usize, String)>,
    /// Why the whole file is skipped.
    skipped: Option<String>,
}

impl Tap {
    fn lines(&mut self, text: &str, depth: usize, most: usize) {
        let mut diagnostic: Option<usize> = None;
        let mut number = 0;
        for raw in text.lines() {
            number += 1;
            let trimmed = raw.trim();
            let indent = raw.len() - raw.trim_start_matches(' ').len();
            if let Some(from) = diagnostic {
                if trimmed == "..." && indent <= from {
                    diagnostic = None;
                } else if ASIDE.iter().any(|key| trimmed.starts_with(key)) {
                    // It tells no reason.
                } else if let Some(case) = self.cases.last_mut() {
                    let room = DIAGNOSTIC_MOST.saturating_sub(case.details.len() + 1);
                    case.details.push_str(excerpt::cut(raw, room));
                    case.details.push('\n');
                }
                continue;
            }
            if trimmed == "---" && indent % 4 >= 1 && !self.cases.is_empty() {
                diagnostic = Some(indent);
                continue;
            }
            let line = line(trimmed);
            if let Line::BailOut(reason) = line {
                let reason = excerpt::cut(reason, 500);
                let colon = if reason.is_empty() { "" } else { ": " };
                self.problems
                    .push((number, format!("the test bailed out{colon}{reason}")));
                return;
            }
            let level = indent / 4;
            if matches!(line, Line::Other | Line::Version)
                || level > self.levels.len()
                || indent % 4 != 0
            {
                continue;
            }
            if level >= depth {
                self.problems.push((
                    number,
                    format!("more than {depth} subtests within one another"),
                ));
                return;
            }
            if self.cases.len() > most {
                return;
            }
            self.line(level, line, number);
        }
        // A line that does not end may be half a name, or lack its directive.
        let last = text.lines().next_back().unwrap_or_default();
        let begun = matches!(line(last.trim()), Line::Point(_) | Line::Plan { .. });
        if begun && !text.ends_with('\n') {
            let problem = "the file ends within a line: it was cut off";
            self.problems.push((number, problem.into()));
        }
        if diagnostic.is_some() {
            self.problems.push((
                number,
                "the file ends within a diagnostic: it was cut off".into(),
            ));
        }
        while self.levels.len() > 1 {
            self.close(None, number);
        }
        self.check_plan(number, true);
    }

    fn line(&mut self, level: usize, line: Line<'_>, number: usize) {
        while self.levels.len() > level + 1 {
            let name = match &line {
                Line::Point(point) if self.levels.len() == level + 2 => {
                    Some(point.description.as_str())
                }
                _ => None,
            };
            self.close(name, number);
        }
        if self.levels.len() < level + 1 {
            self.levels.push(Level {
                first_case: self.cases.len(),
                ..Level::default()
            });
        }
        let outermost = self.levels.len() == 1;
        let Some(current) = self.levels.last_mut() else {
            return;
        };
        match line {
            Line::Plan { count, skip } => {
                if current.planned.replace(count).is_some() {
                    self.problems.push((number, "a second plan".into()));
                }
                if let (0, Some(reason), true) = (count, skip, outermost) {
                    // `# SKIP reason`, or `# Skipped: reason`.
                    let reason = match reason.split_once(|c: char| c.is_whitespace()) {
                        Some((word, rest)) if word.to_ascii_lowercase().starts_with("skip") => rest,
                        _ => reason,
                    };
                    self.skipped = Some(excerpt::cut(reason.trim(), 500).to_owned());
                }
            }
            Line::Point(point) => {
                current.points += 1;
                let Point {
                    description: name,
                    status,
                    reason: summary,
                } = point;
                self.cases.push(Case {
                    name,
                    status,
                    summary,
                    details: String::new(),
                });
            }
            Line::Subtest(name) => current.name = Some(name.to_owned()),
            Line::BailOut(_) | Line::Version | Line::Other => {}
        }
    }

    /// Ends the innermost level; its cases get the name of the point that sums it up.
    fn close(&mut self, name: Option<&str>, number: usize) {
        self.check_plan(number, false);
        let Some(level) = self.levels.pop() else {
            return;
        };
        let hint = level
            .name
            .or_else(|| self.levels.last_mut().and_then(|outer| outer.name.take()));
        let Some(name) = name
            .map(str::to_owned)
            .filter(|name| !name.is_empty())
            .or(hint)
        else {
            return;
        };
        for case in self.cases.iter_mut().skip(level.first_case) {
            case.name = format!("{name}{WITHIN}{}", case.name);
        }
    }

    fn check_plan(&mut self, number: usize, outermost: bool) {
        let Some(level) = self.levels.last() else {
            return;
        };
        let points = level.points;
        match level.planned {
            Some(planned) if planned != points => {
                let problem = format!("the plan says {planned} tests, and there are {points}");
                self.problems.push((number, problem));
            }
            None if outermost => {
                self.problems
                    .push((number, "there is no plan: the output may be cut off".into()));
            }
            _ => {}
        }
    }
}

/// What a line is, its indentation taken off.
fn line(text: &str) -> Line<'_> {
    let starts = |word: &str| {
        text.get(..word.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(word))
    };
    if let Some(rest) = text.strip_prefix("ok").filter(|rest| ends_word(rest)) {
        return Line::Point(point(rest, true));
    }
    if let Some(rest) = text.strip_prefix("not ok").filter(|rest| ends_word(rest)) {
        return Line::Point(point(rest, false));
    }
    if let Some(rest) = text.strip_prefix("1..") {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, rest) = rest.split_at_checked(digits).unwrap_or_default();
        let rest = rest.trim_start();
        let skip = rest.strip_prefix('#').map(str::trim_start);
        if let (Ok(count), true) = (count.parse(), rest.is_empty() || skip.is_some()) {
            return Line::Plan { count, skip };
        }
    }
    if let Some(name) = text
        .strip_prefix("# Subtest:")
        .or_else(|| text.strip_prefix("# Subtest "))
    {
        return Line::Subtest(name.trim());
    }
    if starts("Bail out!") {
        return Line::BailOut(text.get("Bail out!".len()..).unwrap_or_default().trim());
    }
    if starts("TAP version ") {
        Line::Version
    } else {
        Line::Other
    }
}

fn ends_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace())
}

/// A test point, from what follows `ok` or `not ok`.
fn point(rest: &str, ok: bool) -> Point {
    let rest = rest.trim();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    // The number is no name; digits that go on as a word are part of one.
    let rest = match rest.split_at_checked(digits) {
        Some((_, after)) if ends_word(after) => after.trim_start(),
        _ => rest,
    };
    let rest = rest
        .strip_prefix("- ")
        .or_else(|| rest.strip_prefix('-'))
        .unwrap_or(rest);
    // TAP 14 subtests of some producers open a block: `ok 1 - name {`.
    let (text, comment) = split_comment(rest);
    let (directive, reason) = match comment.split_once(|c: char| c.is_whitespace()) {
        Some((directive, reason)) => (directive, reason.trim()),
        None => (comment, ""),
    };
    let directive = directive.to_ascii_uppercase();
    let status = match (ok, directive.as_str()) {
        (_, directive) if directive.starts_with("SKIP") => CaseStatus::Skipped,
        (false, "TODO" | "TODO:") => CaseStatus::Skipped,
        (true, _) => CaseStatus::Passed,
        (false, _) => CaseStatus::Failed,
    };
    // A comment that is no directive is part of the name, unless it tells the time that the test took.
    let named = comment.is_empty()
        || directive.starts_with("SKIP")
        || directive.starts_with("TODO")
        || directive.starts_with("TIME=");
    let description = if named { text } else { rest };
    let description = description.trim().replace("\\#", "#").replace("\\\\", "\\");
    Point {
        description,
        status,
        reason: reason.to_owned(),
    }
}

/// Splits at the last `#` that is neither escaped nor within a word.
fn split_comment(text: &str) -> (&str, &str) {
    let mut from = text.len();
    while let Some(at) = text.get(..from).and_then(|front| front.rfind('#')) {
        let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
        if before.is_empty() || before.ends_with(|c: char| c.is_whitespace()) {
            return (before, after.trim_start_matches('#').trim());
        }
        from = at;
    }
    (text, "")
}
