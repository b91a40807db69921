//! The scalars of a matrix: texts, numbers in a range, and words. May not: know units; that is `units`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::finding::{Finding, did_you_mean, one_of, quote};
use super::read::{Read, Reader, Spanned};
use super::tree::{Kind, Node};

/// A text, as it was written: `3.10`, `yes` and `010` are texts too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Text(pub(super) String);

impl Read for Text {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let expected = match node.kind {
            Kind::List(_) => "a single text",
            _ => "a text",
        };
        reader
            .scalar(node, expected)
            .map(|scalar| Self(scalar.text.clone()))
    }
}

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// One value, or a list of at least one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    /// One value.
    One(Text),
    /// Several, any of which fits.
    #[schemars(extend("minItems" = 1))]
    Many(Vec<Spanned<Text>>),
}

impl Read for OneOrMany {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.kind {
            Kind::List(items) if items.is_empty() => {
                reader.misfit(node, "one value, or a list of at least one", None)
            }
            Kind::List(_) => Read::read(node, reader).map(Self::Many),
            Kind::Map(_) => reader.misfit(node, "one value, or a list of values", None),
            Kind::Scalar(_) => Text::read(node, reader).map(Self::One),
        }
    }
}

impl Read for bool {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let scalar = reader.scalar(node, "`true` or `false`")?;
        let lower = scalar.text.to_lowercase();
        match scalar.text.as_str() {
            "true" | "True" | "TRUE" if scalar.plain => Some(true),
            "false" | "False" | "FALSE" if scalar.plain => Some(false),
            _ => {
                let word = match lower.as_str() {
                    "yes" | "on" | "true" | "y" | "1" => Some("true"),
                    "no" | "off" | "false" | "n" | "0" => Some("false"),
                    _ => None,
                };
                let help = word.map(|word| format!("write {word}, without quotes"));
                reader.misfit(node, "`true` or `false`", help)
            }
        }
    }
}

/// A whole number in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Whole<const LEAST: i64, const MOST: i64>(pub(super) i64);

impl<const LEAST: i64, const MOST: i64> Read for Whole<LEAST, MOST> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let expected = format!("a whole number from {LEAST} to {MOST}");
        let scalar = reader.scalar(node, &expected)?;
        match scalar.text.parse() {
            Ok(number) if scalar.plain && (LEAST..=MOST).contains(&number) => Some(Self(number)),
            Ok(_) if !scalar.plain => {
                let help = format!("write {}, without quotes", scalar.text);
                reader.misfit(node, &expected, Some(help))
            }
            _ => reader.misfit(node, &expected, None),
        }
    }
}

impl<const LEAST: i64, const MOST: i64> JsonSchema for Whole<LEAST, MOST> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("WholeFrom{LEAST}To{MOST}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// A rate above 0 and up to a half.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Rate(pub(super) f64);

impl Read for Rate {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "a number above 0 and up to 0.5, such as 0.01 for one in a hundred";
        let scalar = reader.scalar(node, EXPECTED)?;
        match scalar.text.parse::<f64>() {
            Ok(rate) if scalar.plain && rate > 0.0 && rate <= 0.5 => Some(Self(rate)),
            _ => reader.misfit(node, EXPECTED, None),
        }
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 0.5 })
    }
}

/// One of a few words.
pub(super) trait Word: Copy + 'static {
    /// Every word and what it means.
    const WORDS: &'static [(&'static str, Self)];
    /// Words that will mean something later.
    const LATER: &'static [&'static str] = &[];
}

impl<T: Word> Read for T {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let words = || T::WORDS.iter().map(|(word, _)| *word);
        let expected = one_of(words());
        let scalar = reader.scalar(node, &expected)?;
        if let Some((_, meaning)) = T::WORDS.iter().find(|(word, _)| *word == scalar.text) {
            return Some(*meaning);
        }
        if T::LATER.contains(&scalar.text.as_str()) {
            let message = format!("{} is not supported yet", quote(&scalar.text));
            return reader.refuse(Finding::new(node.at, message).expected(expected));
        }
        reader.misfit(node, &expected, did_you_mean(&scalar.text, words()))
    }
}

/// A key that will mean something later.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Later;

impl Read for Later {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let (key, at) = reader
            .key_at()
            .map_or(("this", node.at), |(key, at)| (key, at));
        let message = format!("{} is not supported yet", quote(key));
        reader.refuse(Finding::new(at, message).help("leave the key away"))
    }
}

impl JsonSchema for Later {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Later".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "not": {} })
    }
}

/// A file's name without directories and ending.
pub(super) fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    if stem.is_empty() || stem.chars().any(char::is_control) {
        "matrix"
    } else {
        stem
    }
}
