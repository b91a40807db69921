//! Quantities with units: sizes in bytes, durations, processors. Each is read, printed and described
//! for the schema in one place. May not: round silently; a size that is no whole byte is an error.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::read::{Read, Reader};
use super::tree::Node;

/// Bytes, from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Size<const LEAST: u64, const MOST: u64>(pub(super) u64);

/// Milliseconds, from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duration<const LEAST: u64, const MOST: u64>(pub(super) u64);

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpus(pub(super) u64);

/// Units of sizes, and their bytes; the first of equal ones is what is printed.
const SIZES: [(&str, u64); 15] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
    ("", 1),
];

/// Units of durations, and their milliseconds, the longest first.
const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Least and most of [`Cpus`], in thousandths.
const CPUS: (u64, u64) = (10, 1_024_000);

/// Splits `text` after its leading digits and point.
fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A decimal number times `unit`, where that is whole.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    (parts % scale == 0).then_some(())?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)?
        .checked_add(parts / scale)
}

/// Reads a size.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text);
    let unit = unit.trim_start_matches(' ');
    SIZES
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, bytes)| times(number, *bytes))
}

/// Prints a size with the largest unit that it is a whole number of.
fn print_size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let unit = SIZES
        .iter()
        .filter(|(name, _)| name.ends_with("iB"))
        .find(fits);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(name, unit)| format!("{}{name}", bytes / unit),
    )
}

/// Reads a duration: numbers with units, the longest unit first, each once.
fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut units, mut total) = (text, DURATIONS.iter(), 0u64);
    while !rest.is_empty() {
        let (number, after) = number_and_unit(rest);
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let (_, unit) = units.find(|(unit, _)| *unit == name)?;
        total = total.checked_add(times(number, *unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Prints a duration with as few units as it needs.
fn print_duration(milliseconds: u64) -> String {
    let mut rest = milliseconds;
    let mut text = String::new();
    for (name, unit) in DURATIONS {
        if rest >= unit {
            text.push_str(&(rest / unit).to_string());
            text.push_str(name);
            rest %= unit;
        }
    }
    if text.is_empty() {
        "0ms".to_owned()
    } else {
        text
    }
}

fn cpus(text: &str) -> Option<u64> {
    text.strip_suffix('m')
        .map_or_else(|| times(text, 1000), |thousandths| times(thousandths, 1))
}

/// Bytes, as `limits` writes them: `512MiB`, `1.5GiB`, `1GB`, or a number of bytes. None: it is no size.
pub fn parse_bytes(text: &str) -> Option<u64> {
    size(text)
}

/// Milliseconds, as `timeout` writes them: `10m`, `1h30m`, `90s`, `300ms`. None: it is no duration.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    duration(text)
}

/// Thousandths of a processor, as `limits` writes them: `1.5` or `1500m`. None: it is no number of them.
pub fn parse_cpu_millis(text: &str) -> Option<u64> {
    cpus(text)
}

impl<const LEAST: u64, const MOST: u64> Read for Size<LEAST, MOST> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let range = format!("{} to {}", print_size(LEAST), print_size(MOST));
        let expected =
            format!("a size from {range}, such as 512MiB, 1.5GiB, 1GB or a number of bytes");
        let scalar = reader.scalar(node, &expected)?;
        if let Some(bytes) = size(&scalar.text).filter(|bytes| (LEAST..=MOST).contains(bytes)) {
            return Some(Self(bytes));
        }
        let (number, unit) = number_and_unit(&scalar.text);
        let meant = match unit.trim().to_lowercase().as_str() {
            "k" | "ki" | "kib" => Some("KiB"),
            "kb" => Some("kB"),
            "m" | "mi" | "mib" => Some("MiB"),
            "mb" => Some("MB"),
            "g" | "gi" | "gib" => Some("GiB"),
            "gb" => Some("GB"),
            "t" | "ti" | "tib" => Some("TiB"),
            "tb" => Some("TB"),
            _ => None,
        };
        let meant = meant.filter(|meant| *meant != unit && !number.is_empty());
        reader.misfit(
            node,
            &expected,
            meant.map(|meant| format!("did you mean `{number}{meant}`?")),
        )
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Size<LEAST, MOST> {
    fn schema_name() -> Cow<'static, str> {
        format!("SizeFrom{LEAST}To{MOST}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": LEAST, "maximum": MOST },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? *(B|[kKMGT]B|[KMGT]iB?)?$" }
        ] })
    }
}

impl<const LEAST: u64, const MOST: u64> Read for Duration<LEAST, MOST> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let range = format!("{} to {}", print_duration(LEAST), print_duration(MOST));
        let expected = format!("a duration from {range}, such as 90s, 10m or 1h30m");
        let scalar = reader.scalar(node, &expected)?;
        if let Some(time) = duration(&scalar.text).filter(|time| (LEAST..=MOST).contains(time)) {
            return Some(Self(time));
        }
        let (number, unit) = number_and_unit(&scalar.text);
        let meant = match unit.trim().to_lowercase().as_str() {
            _ if number.is_empty() => None,
            "" | "sec" | "secs" | "second" | "seconds" => Some("s"),
            "min" | "mins" | "minute" | "minutes" => Some("m"),
            "hour" | "hours" | "hr" => Some("h"),
            "day" | "days" => Some("d"),
            _ => None,
        };
        reader.misfit(
            node,
            &expected,
            meant.map(|meant| format!("did you mean `{number}{meant}`?")),
        )
    }
}

impl<const LEAST: u64, const MOST: u64> Serialize for Duration<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print_duration(self.0))
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Duration<LEAST, MOST> {
    fn schema_name() -> Cow<'static, str> {
        format!("DurationFrom{LEAST}To{MOST}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(d|h|ms|m|s))+$" })
    }
}

impl Read for Cpus {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "a number of processors from 0.01 to 1024, such as 2, 1.5 or 500m";
        let scalar = reader.scalar(node, EXPECTED)?;
        match cpus(&scalar.text).filter(|cpus| (CPUS.0..=CPUS.1).contains(cpus)) {
            Some(cpus) => Some(Self(cpus)),
            None => reader.misfit(node, EXPECTED, None),
        }
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}m", self.0))
    }
}

impl JsonSchema for Cpus {
    fn schema_name() -> Cow<'static, str> {
        "Cpus".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "number", "minimum": 0.01, "maximum": 1024 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?m?$" }
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_bytes_with_the_usual_units() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1GB", 1_000_000_000),
            ("1.5GiB", 3 << 29),
            ("4096", 4096),
            ("2Gi", 2 << 30),
            ("10 kB", 10_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in [
            "",
            "MiB",
            "1.",
            ".5GiB",
            "512m",
            "-1",
            "0.3B",
            "99999999999TiB",
            "1e3",
            "1,5GiB",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_as_they_are_printed() {
        for (text, time) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Some(time), "{text}");
        }
        for wrong in [
            "",
            "10",
            "m",
            "1m1h",
            "1s1s",
            "1h 30m",
            "0.0001ms",
            "99999999999999d",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for time in [0, 1, 999, 1000, 61_001, 90_000, 86_400_001] {
            assert_eq!(duration(&print_duration(time)), Some(time));
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        for (text, thousandths) in [("1", 1000), ("1.5", 1500), ("500m", 500), ("0.25", 250)] {
            assert_eq!(cpus(text), Some(thousandths), "{text}");
        }
        for wrong in ["", "m", "0.0001", "1.5x", "1e3"] {
            assert_eq!(cpus(wrong), None, "{wrong}");
        }
    }
}
