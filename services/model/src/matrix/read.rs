//! From the tree to types: how each kind of value is read, what it may be, and what is said where it
//! is not that. Reading goes on after an error, so that several are told at once.
//! May not: know what a key means to a run.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::finding::{Finding, Spot, did_you_mean, nearest, one_of, quote};
use super::tree::{Entry, Kind, Node, Scalar};

/// Most errors that are looked for; a source with more is not looked at to its end.
pub(super) const FINDINGS_MOST: usize = 100;

/// Keys that are not worth recommending yet.
const LATER: [&str; 1] = ["services"];

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
            None => format!("a matrix cannot be {found}"),
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

/// Whether the mapping in `node` has one of these keys, or one that is near, by which it is told from others that could
/// stand there.
pub(super) fn has_key(node: &Node, keys: &[&str]) -> bool {
    match &node.kind {
        Kind::Map(entries) => entries.iter().take(keys.len() + 8).any(|entry| {
            let key = entry.key.as_str();
            keys.contains(&key) || nearest(key, keys.iter().copied()).is_some()
        }),
        _ => false,
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
        if let Some(entry) = entry {
            return reader.entry(entry);
        }
        let message = match reader.key_at() {
            Some((outer, _)) => format!("{} lacks the key {}", quote(outer), quote(key)),
            None => format!("the key {} is missing", quote(key)),
        };
        reader.refuse(Finding::new(owner, message).help(format!("add `{key}: ...`")))
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
        let known = || keys.iter().copied().filter(|key| !LATER.contains(key));
        let expected = match reader.key_at() {
            Some(_) => format!("a mapping with the keys {}", one_of(known())),
            None => "a mapping with at least `image`, `axes` and `test`".to_owned(),
        };
        let entries = reader.map(node, &expected)?;
        for entry in entries {
            if reader.findings.len() > FINDINGS_MOST {
                break;
            }
            if !keys.contains(&entry.key.as_str()) {
                let message = match reader.key_at() {
                    Some((outer, _)) => {
                        format!("unknown key {} in {}", quote(&entry.key), quote(outer))
                    }
                    None => format!("unknown key {}", quote(&entry.key)),
                };
                let meant = did_you_mean(&entry.key, keys.iter().copied());
                let finding = Finding::new(entry.key_at, message);
                reader
                    .findings
                    .push(finding.expected(one_of(known())).help_if(meant));
            }
        }
        // A missing key is told where the mapping is named, or where it begins.
        let at = reader.key_at().map_or(first(node.at), |(_, at)| at);
        Some(Self { at, entries })
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
        if entry.is_none() && self.entries.iter().take(keys.len() + 8).any(mistyped) {
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
            .map(|item| {
                // What an item lacks is told at the item.
                let own = reader
                    .key_at()
                    .map(|(key, _)| (key.to_owned(), first(item.at)));
                let outer = std::mem::replace(&mut reader.key, own);
                let value = T::read(item, reader);
                reader.key = outer;
                value.map(|value| Spanned { at: item.at, value })
            })
            .collect();
        read.into_iter().collect()
    }
}

/// The first character of a place.
fn first(at: Spot) -> Spot {
    Spot {
        start: at.start,
        end: at.start + 1,
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
        let expected = "a mapping of names to values, such as {name: value}";
        let entries = reader.map(node, expected)?;
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
