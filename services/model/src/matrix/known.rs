//! Known failures: cases that fail, and that somebody answers for until a day. May not: know the day, or whether a case
//! failed.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::adjust::FIND_STEPS_MOST;
use super::cells::{Axis, Cells};
use super::finding::{Finding, Spot};
use super::read::{Read, Reader};
use super::select::{self, Names, Selector};
use super::tree::Node;
use super::written::Written;

/// Most known failures of a matrix.
pub const KNOWN_MOST: usize = 1000;

/// Longest text of one of its keys, in bytes.
const TEXT_MOST: usize = 1000;

/// A day, as in 2027-01-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

impl Day {
    /// The day (UTC) of a moment, in milliseconds since 1970.
    pub fn of(ms: u64) -> Self {
        let moment = i64::try_from(ms).ok();
        let moment = moment.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        Self(moment.map_or(Date::MAX, |moment| Offset::UTC.to_datetime(moment).date()))
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text.len() == "2027-01-31".len();
        let date = text.parse().map_err(drop);
        date.map(Self)
            .and_then(|day| plain.then_some(day).ok_or(()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Day {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Day".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date" })
    }
}

impl Read for Day {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "a day, such as 2027-01-31";
        let scalar = reader.scalar(node, EXPECTED)?;
        match scalar.text.parse() {
            Ok(day) => Some(day),
            Err(()) => reader.misfit(node, EXPECTED, None),
        }
    }
}

/// A case that is known to fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its name; `*` stands for any characters.
    pub case: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day (UTC) on which it may fail.
    pub until: Day,
    /// Why, or where one reads about it; may be empty.
    pub why: String,
    pub(super) selector: Selector,
}

impl Known {
    /// Whether a case of this name is meant.
    pub fn means(&self, case: &str) -> bool {
        is_like(case, &self.case)
    }

    /// Whether it no longer holds for a run that was submitted on this day.
    pub fn is_over(&self, day: Day) -> bool {
        day > self.until
    }
}

/// Whether a text is like a pattern in which `*` stands for any characters.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The first place will do: what follows may be anything.
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

pub(super) fn known(
    written: &Written,
    names: &Names<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Known> {
    let Some(list) = &written.known else {
        return Vec::new();
    };
    if list.value.len() > KNOWN_MOST {
        let message = format!("the matrix has more than {KNOWN_MOST} known failures");
        let help = "let one entry stand for several: `*` in `case` stands for any characters";
        findings.push(Finding::new(list.at, message).help(help));
        return Vec::new();
    }
    let mut all = Vec::new();
    for one in &list.value {
        let known = &one.value;
        let texts = [Some(&known.case), Some(&known.owner), known.why.as_ref()];
        for text in texts.into_iter().flatten() {
            if text.value.0.is_empty() || text.value.0.len() > TEXT_MOST {
                let message = format!("a text of 1 to {TEXT_MOST} bytes is expected here");
                findings.push(Finding::new(text.at, message));
            }
        }
        let meant = known.selector.as_ref();
        let selector = meant.map(|meant| {
            names.selector(&meant.value, meant.at, "this known failure", true, findings)
        });
        all.push(Known {
            case: known.case.value.0.clone(),
            owner: known.owner.value.0.clone(),
            until: known.until.value,
            why: known
                .why
                .as_ref()
                .map_or_else(String::new, |why| why.value.0.clone()),
            selector: selector.flatten().unwrap_or_default(),
        });
    }
    all
}

/// Every known failure must match a cell.
pub(super) fn matching(
    written: &Written,
    axes: &[Axis],
    cells: &Cells,
    all: &[Known],
) -> Result<(), Vec<Finding>> {
    let list = written.known.iter().flat_map(|list| &list.value);
    let mut steps = FIND_STEPS_MOST;
    let mut findings = Vec::new();
    for (one, known) in list.zip(all) {
        let at = one
            .value
            .selector
            .as_ref()
            .map_or(Spot::default(), |s| s.at);
        match select::any(cells, axes, &known.selector, &mut steps) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let message =
                    "this known failure matches nothing: no cell has these values together";
                findings.push(Finding::new(at, message).help("remove it, or mend its `where`"));
            }
            Err(_) => {
                let message = "it takes too long to find out which cells the known failures match";
                let finding = Finding::new(at, message);
                return Err(vec![finding.help("use fewer of them, or simpler excludes")]);
            }
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, like) in [
            ("a::b", "a::b"),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c*e", "abcde"),
            ("a*c*e", "ace"),
            ("*", ""),
            ("a**b", "ab"),
            ("a*aa", "aaa"),
        ] {
            assert!(is_like(like, pattern), "{like} is like {pattern}");
        }
        for (pattern, unlike) in [
            ("a", "ab"),
            ("b*", "ab"),
            ("a*c", "acb"),
            ("a*aa", "aa"),
            ("a*c*e", "aec"),
        ] {
            assert!(!is_like(unlike, pattern), "{unlike} is not like {pattern}");
        }
    }

    #[test]
    fn a_day_is_over_after_its_end_in_utc() {
        let day: Day = "2027-01-31".parse().unwrap();
        assert_eq!(Day::of(1_801_439_999_999), day);
        assert!(Day::of(1_801_440_000_000) > day);
        for wrong in [
            "2027-02-30",
            "2027-1-3",
            "31.1.2027",
            "2027-01-31T00:00",
            "",
        ] {
            assert_eq!(wrong.parse::<Day>(), Err(()), "{wrong}");
        }
    }
}
