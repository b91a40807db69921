//! From the tree to types: how each kind of value is read, what it may be, and what is said where it
//! is not that. Reading goes on after an error, so that several are told at once.
//! May not: know what a key means to a run.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::diagnostic::{Finding, Spot, did_you_mean, nearest, one_of, quote};
use super::tree::{Entry, Kind, Node, Scalar};

/// Collects what is wrong while values are read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
    /// The key whose value is being read.
    key: Option<(String, Spot)>,
}

impl Reader {
    /// Notes an error; the value is lost.
    pub(super) fn refuse<T>(&mut self, finding: Finding) -> Option<T> {
        self.findings.push(finding);
        None
    }

    /// Notes that `node` is not what was expected.
    pub(super) fn misfit<T>(
        &mut self,
        node: &Node,
        expected: &str,
        help: Option<String>,
    ) -> Option<T> {
        let found = node.describe();
        let message = match &self.key {
            Some((key, _)) if found == "nothing" => format!("{} has no value", quote(key)),
            Some((key, _)) => format!("{} cannot be {found}", quote(key)),
            None => format!("this cannot be {found}"),
        };
        self.refuse(
            Finding::new(node.at, message)
                .expected(expected)
                .help_if(help),
        )
    }

    /// The scalar in `node`, if it is one and says something.
    pub(super) fn scalar<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            Kind::Scalar(scalar) if !scalar.text.is_empty() => {
                let help = format!("for the text, write \"{}\" in quotes", scalar.text);
                self.misfit(node, expected, Some(help))
            }
            Kind::Map(entries) if entries.len() == 1 && entries.iter().all(is_braces) => {
                let help = "put a text that holds `${{ ... }}` in quotes".to_owned();
                self.misfit(node, expected, Some(help))
            }
            _ => self.misfit(node, expected, None),
        }
    }

    /// The items of the list in `node`.
    pub(super) fn list<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::List(items) => Some(items),
            Kind::Scalar(scalar) if !scalar.is_null() => {
                let help = format!("for a list of one, write [{}]", scalar.text);
                self.misfit(node, expected, (scalar.text.len() < 60).then_some(help))
            }
            _ => self.misfit(node, expected, None),
        }
    }

    /// The entries of the mapping in `node`.
    pub(super) fn map<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            _ => self.misfit(node, expected, None),
        }
    }

    /// Reads the value of an entry, which then is what [`Reader::misfit`] talks about.
    pub(super) fn entry<T: Read>(&mut self, entry: &Entry) -> Option<Spanned<T>> {
        let outer = self.key.replace((entry.key.clone(), entry.key_at));
        let value = T::read(&entry.value, self);
        self.key = outer;
        value.map(|value| Spanned {
            at: entry.value.at,
            value,
        })
    }

    /// The place of the key whose value is being read.
    pub(super) fn key_at(&self) -> Option<(&str, Spot)> {
        self.key.as_ref().map(|(key, at)| (key.as_str(), *at))
    }
}

/// Whether an entry is what YAML makes of an unquoted `{{ ... }}`.
fn is_braces(entry: &Entry) -> bool {
    entry.key.is_empty() || matches!(entry.value.kind, Kind::Map(_))
}

/// Something that can be read from a matrix.
pub(super) trait Read: Sized {
    /// Reads it, or says what is wrong.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;
}

/// A value with its place. Two are equal where their values are.
#[derive(Clone, Debug)]
pub(super) struct Spanned<T> {
    pub(super) at: Spot,
    pub(super) value: T,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The value of a key that must be there, or of one that may.
pub(super) trait Field: Sized {
    /// Reads it. `owner` is the mapping's place.
    fn read_field(
        entry: Option<&Entry>,
        key: &str,
        owner: Spot,
        reader: &mut Reader,
    ) -> Option<Self>;

    /// Whether it was left away.
    fn is_absent(&self) -> bool;
}

impl<T: Read> Field for Spanned<T> {
    fn read_field(
        entry: Option<&Entry>,
        key: &str,
        owner: Spot,
        reader: &mut Reader,
    ) -> Option<Self> {
        match entry {
            Some(entry) => reader.entry(entry),
            None => {
                let message = match reader.key_at() {
                    Some((outer, _)) => format!("{} lacks the key {}", quote(outer), quote(key)),
                    None => format!("the key {} is missing", quote(key)),
                };
                reader.refuse(Finding::new(owner, message).help(format!("add `{key}: ...`")))
            }
        }
    }

    fn is_absent(&self) -> bool {
        false
    }
}

impl<T: Read> Field for Option<Spanned<T>> {
    fn read_field(entry: Option<&Entry>, _: &str, _: Spot, reader: &mut Reader) -> Option<Self> {
        entry.map_or(Some(None), |entry| reader.entry(entry).map(Some))
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// The entries of a mapping with fixed keys.
pub(super) struct Entries<'n> {
    at: Spot,
    entries: &'n [Entry],
}

impl<'n> Entries<'n> {
    /// The mapping in `node`, its unknown keys told.
    pub(super) fn of(node: &'n Node, keys: &[&str], reader: &mut Reader) -> Option<Self> {
        let expected = format!("a mapping with the keys {}", one_of(keys.iter().copied()));
        let entries = reader.map(node, &expected)?;
        for entry in entries {
            if !keys.contains(&entry.key.as_str()) {
                let message = match reader.key_at() {
                    Some((outer, _)) => {
                        format!("unknown key {} in {}", quote(&entry.key), quote(outer))
                    }
                    None => format!("unknown key {}", quote(&entry.key)),
                };
                let meant = did_you_mean(&entry.key, keys.iter().copied());
                let finding = Finding::new(entry.key_at, message);
                let finding = finding
                    .expected(one_of(keys.iter().copied()))
                    .help_if(meant);
                reader.findings.push(finding);
            }
        }
        // A missing key is told at the first line of the mapping.
        Some(Self {
            at: Spot {
                start: node.at.start,
                end: node.at.start + 1,
            },
            entries,
        })
    }

    /// The value of `key`.
    pub(super) fn field<F: Field>(
        &self,
        key: &str,
        keys: &[&str],
        reader: &mut Reader,
    ) -> Option<F> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let mistyped = |entry: &Entry| {
            !keys.contains(&entry.key.as_str())
                && nearest(&entry.key, keys.iter().copied()) == Some(key)
        };
        // A mistyped key is told already; that it is missing as well would say the same again.
        if entry.is_none() && self.entries.iter().any(mistyped) {
            return F::read_field(None, key, self.at, &mut Reader::default());
        }
        F::read_field(entry, key, self.at, reader)
    }
}

/// A mapping with fixed keys: one list of them for reading, printing and the schema.
macro_rules! written {
    ($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $field_doc:literal])+ $field:ident: $key:literal => $type:ty,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(
                $(#[doc = $field_doc])+
                #[serde(rename = $key, skip_serializing_if = "crate::matrix::read::Field::is_absent")]
                pub(super) $field: $type,
            )+
        }

        impl crate::matrix::read::Read for $name {
            fn read(
                node: &crate::matrix::tree::Node,
                reader: &mut crate::matrix::read::Reader,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$($key),+];
                let entries = crate::matrix::read::Entries::of(node, KEYS, reader)?;
                $(let $field = entries.field($key, KEYS, reader);)+
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}
pub(super) use written;

impl<T: Read> Read for Vec<Spanned<T>> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let items = reader.list(node, "a list")?;
        let read: Vec<_> = items
            .iter()
            .map(|item| T::read(item, reader).map(|value| Spanned { at: item.at, value }))
            .collect();
        read.into_iter().collect()
    }
}

/// A mapping with free keys, in the order of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Map<T> {
    pub(super) entries: Vec<(Spanned<String>, Spanned<T>)>,
}

impl<T> Map<T> {
    /// Keys and values with their places.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (Spanned<String>, Spanned<T>)> {
        self.entries.iter()
    }
}

impl<T: Read> Read for Map<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let entries = reader.map(node, "a mapping")?;
        let read: Vec<_> = entries
            .iter()
            .map(|entry| {
                let key = Spanned {
                    at: entry.key_at,
                    value: entry.key.clone(),
                };
                reader.entry(entry).map(|value| (key, value))
            })
            .collect();
        read.into_iter()
            .collect::<Option<_>>()
            .map(|entries| Self { entries })
    }
}

impl<T: Serialize> Serialize for Map<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(key, value)| (&key.value, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": values })
    }
}

/// A text, as it was written: `3.10`, `yes` and `010` are texts too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Text(pub(super) String);

impl Read for Text {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let scalar = reader.scalar(
            node,
            "a text, a number or a boolean; its text is kept as written",
        )?;
        Some(Self(scalar.text.clone()))
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
