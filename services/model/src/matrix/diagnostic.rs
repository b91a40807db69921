//! What is wrong with a matrix, told as rustc tells it: the place, the line, a caret, what was
//! expected, and the nearest word. May not: decide what is wrong.

use std::fmt;

use unicode_width::UnicodeWidthChar;

use super::finding::{Finding, Spot};

/// Most errors that are told at once; further ones are counted.
pub const DIAGNOSTICS_MOST: usize = 20;

/// Longest part of a line that is shown, in characters.
const EXCERPT_MOST: usize = 140;

/// How many spaces a tab is shown as.
const TAB: &str = "    ";

/// One error in a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, without a full stop.
    pub message: String,
    /// The line, from 1; 0 where the error has no place in the file.
    pub line: u32,
    /// The column in characters, from 1; 0 where the error has no place in the file.
    pub column: u32,
    /// The place as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What should have been there.
    pub expected: Option<String>,
    /// What else has to do with it.
    pub notes: Vec<String>,
    /// The way out.
    pub help: Option<String>,
    excerpt: Option<Excerpt>,
}

/// The line of an error, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Columns before the caret, as a terminal counts them.
    indent: usize,
    /// How many carets.
    width: usize,
}

/// All that is wrong with a matrix. Never empty. Shown as text, as rustc would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    list: Vec<Diagnostic>,
    more: usize,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl Diagnostics {
    /// Turns findings into diagnostics: in the order of the source, each once.
    pub(super) fn new(
        file: &str,
        source: &str,
        mut findings: Vec<Finding>,
        pointer: &dyn Fn(Spot) -> String,
    ) -> Self {
        findings.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
        findings.dedup_by(|a, b| a.at == b.at && a.message == b.message);
        let more = findings.len().saturating_sub(DIAGNOSTICS_MOST);
        findings.truncate(DIAGNOSTICS_MOST);
        let list = findings
            .into_iter()
            .map(|f| diagnostic(source, f, pointer))
            .collect();
        Self {
            file: file.to_owned(),
            list,
            more,
        }
    }

    /// The name of the file, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The errors in the order of the source; at most [`DIAGNOSTICS_MOST`].
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The first error.
    pub fn first(&self) -> Option<&Diagnostic> {
        self.list.first()
    }

    /// The whole as text for a person, with terminal colours or without; ends with a line feed.
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        let paint = Paint { color };
        for diagnostic in &self.list {
            diagnostic.render(&self.file, paint, &mut out);
            out.push('\n');
        }
        if self.more > 0 {
            let text = format!("and {} more errors", self.more);
            out.push_str(&paint.bold_red(&text));
            out.push('\n');
        } else {
            out.pop();
        }
        out
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Diagnostic {
    fn render(&self, file: &str, paint: Paint, out: &mut String) {
        let line = self.line.to_string();
        let gutter = " ".repeat(line.len());
        let mut put = |text: &str| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        put(&format!(
            "{}{}",
            paint.bold_red("error"),
            paint.bold(&format!(": {}", self.message))
        ));
        let bar = paint.blue("|");
        if self.line > 0 {
            let arrow = paint.blue("-->");
            put(&format!("{gutter} {arrow} {file}:{line}:{}", self.column));
        }
        if let Some(excerpt) = &self.excerpt {
            let carets = paint.bold_red(&"^".repeat(excerpt.width));
            put(&format!("{gutter}  {bar}"));
            put(&format!(" {} {bar} {}", paint.blue(&line), excerpt.text));
            put(&format!(
                "{gutter}  {bar} {}{carets}",
                " ".repeat(excerpt.indent)
            ));
        }
        let gutter = if self.excerpt.is_some() {
            format!("{gutter} ")
        } else {
            String::new()
        };
        let equals = paint.blue("=");
        let remarks = self.expected.iter().map(|text| ("expected", text));
        let remarks = remarks.chain(self.notes.iter().map(|text| ("note", text)));
        for (kind, text) in remarks.chain(self.help.iter().map(|text| ("help", text))) {
            put(&format!("{gutter} {equals} {}: {text}", paint.bold(kind)));
        }
    }
}

/// Whether and how text is coloured.
#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn bold_red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn blue(self, text: &str) -> String {
        self.wrap("1;34", text)
    }
}

fn diagnostic(source: &str, finding: Finding, pointer: &dyn Fn(Spot) -> String) -> Diagnostic {
    let at = finding
        .at
        .map(|spot| narrow(source, spot, finding.part.as_deref()));
    let place = at.map(|spot| Place::of(source, spot));
    let notes = finding.notes.into_iter().map(|(text, at)| match at {
        Some(spot) => {
            let place = Place::of(source, spot);
            format!("{text}: {}:{}", place.line, place.column)
        }
        None => text,
    });
    Diagnostic {
        message: one_line(&finding.message),
        line: place.as_ref().map_or(0, |place| place.line),
        column: place.as_ref().map_or(0, |place| place.column),
        pointer: finding.at.map(pointer).unwrap_or_default(),
        expected: finding.expected.as_deref().map(one_line),
        notes: notes.collect(),
        help: finding.help.as_deref().map(one_line),
        excerpt: place.and_then(|place| place.excerpt),
    }
}

/// The first place of `part` within `spot`.
fn narrow(source: &str, spot: Spot, part: Option<&str>) -> Spot {
    let found = part
        .zip(source.get(spot.start..spot.end))
        .and_then(|(part, text)| {
            let start = spot.start + text.find(part)?;
            Some(Spot {
                start,
                end: start + part.len(),
            })
        });
    found.unwrap_or(spot)
}

/// A place as a person finds it.
struct Place {
    line: u32,
    column: u32,
    excerpt: Option<Excerpt>,
}

impl Place {
    fn of(source: &str, spot: Spot) -> Self {
        let start = floor(source, spot.start);
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = source.get(line_start..).unwrap_or_default();
        let text = rest
            .split('\n')
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r');
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let end = floor(source, spot.end.max(start)).min(line_start + text.len());
        let marked = source
            .get(start..end)
            .unwrap_or_default()
            .trim_end()
            .chars()
            .count()
            .max(1);
        let line = before.matches('\n').count() + 1;
        Self {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            excerpt: Some(Excerpt::of(text, column, marked)),
        }
    }
}

impl Excerpt {
    /// Shows `text` with `marked` characters from `column` on marked; a long line is cut around them.
    fn of(text: &str, column: usize, marked: usize) -> Self {
        let far = column + marked.min(40) > EXCERPT_MOST;
        let skipped = if far { column.saturating_sub(40) } else { 0 };
        let mut shown = if skipped > 0 {
            "...".to_owned()
        } else {
            String::new()
        };
        let (mut indent, mut width) = (shown.len(), 0);
        let mut rest = text.chars().enumerate().skip(skipped);
        for (at, character) in rest.by_ref().take(EXCERPT_MOST) {
            let before = shown.len();
            match character {
                '\t' => shown.push_str(TAB),
                c if c.is_control() || is_direction(c) => shown.push('\u{fffd}'),
                c => shown.push(c),
            }
            let added: usize = shown
                .get(before..)
                .unwrap_or_default()
                .chars()
                .filter_map(UnicodeWidthChar::width)
                .sum();
            if at < column {
                indent += added;
            } else if at < column + marked {
                width += added;
            }
        }
        if rest.next().is_some() {
            shown.push_str("...");
        }
        Self {
            text: shown,
            indent,
            width: width.max(1),
        }
    }
}

/// Characters that would turn a terminal's writing direction, and hide what a line really says.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// No control characters: the text of a matrix may end up on a terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || is_direction(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
