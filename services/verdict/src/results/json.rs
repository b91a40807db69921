//! Results that are JSON: which dialect a text is, and its lines one by one. May not: know what an event means.

use serde::{Deserialize, Deserializer};

use super::collect::Collector;
use crate::excerpt;

/// What a JSON text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The events of `go test -json`.
    Go,
    /// The events of libtest's `--format json`, and of nextest's `libtest-json` and `libtest-json-plus`.
    Libtest,
    /// One object, as Jest's `--json` and Vitest's JSON reporter write it.
    Jest,
    /// One object, as Mocha's JSON reporter writes it.
    Mocha,
    /// JSON, and no results that are known here.
    Other,
    /// It begins as JSON does, and is not whole.
    Broken,
}

/// The keys that tell a dialect; all else is passed over.
#[derive(Deserialize)]
struct Marks {
    #[serde(rename = "Action")]
    action: Option<Any>,
    #[serde(rename = "Package")]
    package: Option<Any>,
    #[serde(rename = "ImportPath")]
    import_path: Option<Any>,
    #[serde(rename = "type")]
    kind: Option<Word>,
    event: Option<Word>,
    #[serde(rename = "testResults")]
    test_results: Option<Any>,
    #[serde(rename = "numTotalTests")]
    total: Option<Any>,
    stats: Option<Any>,
    tests: Option<Any>,
    passes: Option<Any>,
    failures: Option<Any>,
}

/// A value that is there.
struct Any;

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A text, or a value that is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Word {
    fn is(&self, words: &[&str]) -> bool {
        match self {
            Self::Text(text) => words.contains(&text.as_str()),
            Self::Other(_) => false,
        }
    }
}

impl Marks {
    fn dialect(&self) -> Option<Dialect> {
        let kinds = ["suite", "test", "bench", "report"];
        if self.action.is_some() && (self.package.is_some() || self.import_path.is_some()) {
            Some(Dialect::Go)
        } else if self.kind.as_ref().is_some_and(|kind| kind.is(&kinds)) && self.event.is_some() {
            Some(Dialect::Libtest)
        } else if self.test_results.is_some() && self.total.is_some() {
            Some(Dialect::Jest)
        } else if self.stats.is_some()
            && self.tests.is_some()
            && self.passes.is_some()
            && self.failures.is_some()
        {
            Some(Dialect::Mocha)
        } else {
            None
        }
    }
}

/// What JSON a text is; none where it does not begin as JSON does, and no line of it is an event.
pub(super) fn dialect(text: &str) -> Option<Dialect> {
    let begins = text.trim_start().starts_with(['{', '[']);
    let events = text.lines().filter(|line| is_object(line));
    let mut broken = false;
    for line in events {
        match serde_json::from_str::<Marks>(line.trim()) {
            Ok(marks) => {
                if let Some(dialect @ (Dialect::Go | Dialect::Libtest)) = marks.dialect() {
                    return Some(dialect);
                }
            }
            // An event that was cut, or the first line of one object over several.
            Err(_) => broken = true,
        }
        if broken {
            break;
        }
    }
    if !begins {
        return None;
    }
    if let Ok(marks) = serde_json::from_str::<Marks>(text) {
        return Some(marks.dialect().unwrap_or(Dialect::Other));
    }
    // Values one after another are whole as well.
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let whole = values.all(|value| value.is_ok());
    Some(if whole {
        Dialect::Other
    } else {
        Dialect::Broken
    })
}

fn is_object(line: &str) -> bool {
    line.trim_start().starts_with('{')
}

/// A number, where it is one: some write it as a text, or leave it `null`, and nothing fails for that.
pub(super) fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    Ok(serde_json::Value::deserialize(value)?.as_f64())
}

/// Hands the events of a text to `event`, and its lines that are none to `plain`, until `event` finds something wrong. A line
/// that begins as an event and is none is a problem: it was cut off, or something else wrote into it.
pub(super) fn events<'t, T: Deserialize<'t>, S>(
    path: &str,
    text: &'t str,
    collector: &mut Collector,
    state: &mut S,
    event: impl Fn(&mut S, &mut Collector, T) -> Result<(), String>,
    plain: impl Fn(&mut S, &str),
) -> Result<(), String> {
    for (at, line) in text.lines().enumerate() {
        if !is_object(line) {
            plain(state, line);
            continue;
        }
        match serde_json::from_str(line.trim()) {
            Ok(read) => event(state, collector, read)
                .map_err(|problem| format!("line {}: {problem}", at + 1))?,
            Err(error) => {
                let error = error.to_string();
                let error = excerpt::cut(&error, 200);
                collector.problem(&format!("{path}: line {}: no whole event: {error}", at + 1));
            }
        }
    }
    Ok(())
}
