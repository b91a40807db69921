//! The source as a tree of scalars, lists and maps in which everything knows its place. JSON is read
//! by the same way: what JSON allows, YAML 1.2 allows.
//!
//! Scalars keep the text they were written with; nothing here decides that `3.10` is a number.
//! May not: know any key of a matrix. Bounded in size, depth and what aliases may unfold to.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};

use super::finding::{Finding, Spot, quote};

/// Longest source, in bytes.
pub const SOURCE_MOST: usize = 1 << 20;

/// Deepest nesting of lists and maps.
pub const DEPTH_MOST: usize = 32;

/// How much a source may hold once its aliases are unfolded: values and bytes of text together.
pub const UNFOLDED_MOST: usize = 4 << 20;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Spot,
    pub(super) kind: Kind,
}

/// What a value is, before anybody knows what it should be.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A scalar.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map: its entries in the order of the source, each key once.
    Map(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes, and so perhaps a number, a boolean or nothing.
    pub(super) plain: bool,
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Spot,
    pub(super) value: Node,
}

impl Scalar {
    /// Whether it says that there is no value, as YAML 1.2's core schema has it.
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// What a person would call it.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.is_null() && scalar.text.is_empty() => {
                "nothing".to_owned()
            }
            Kind::Scalar(scalar) if scalar.is_null() => {
                format!("{} (nothing)", quote(&scalar.text))
            }
            Kind::Scalar(scalar) if scalar.plain => quote(&scalar.text),
            Kind::Scalar(scalar) => format!("the text {}", quote(&scalar.text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The JSON pointer of the innermost value that covers `spot`.
    pub(super) fn pointer(&self, spot: Spot) -> String {
        let covers = |at: Spot| at.start <= spot.start && spot.start < at.end.max(at.start + 1);
        let mut pointer = String::new();
        let mut node = self;
        loop {
            let step = match &node.kind {
                Kind::Scalar(_) => None,
                Kind::List(items) => items
                    .iter()
                    .enumerate()
                    .find(|(_, item)| covers(item.at))
                    .map(|(index, item)| (index.to_string(), item)),
                Kind::Map(entries) => entries
                    .iter()
                    .find(|entry| covers(entry.key_at) || covers(entry.value.at))
                    .map(|entry| {
                        (
                            entry.key.replace('~', "~0").replace('/', "~1"),
                            &entry.value,
                        )
                    }),
            };
            let Some((name, next)) = step else {
                return pointer;
            };
            pointer.push('/');
            pointer.push_str(&name);
            node = next;
        }
    }
}

/// Reads the one document of `source`.
pub(super) fn read(source: &str) -> Result<Node, Vec<Finding>> {
    let whole = Spot { start: 0, end: 0 };
    if source.len() > SOURCE_MOST {
        let message = format!(
            "the matrix has {} bytes, more than {SOURCE_MOST}",
            source.len()
        );
        let help = "a matrix is axes and commands; put long scripts into `files`";
        return Err(vec![Finding::new(whole, message).help(help)]);
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.simple_key_max_lookahead = SOURCE_MOST;
    options.flow_nesting_limit = DEPTH_MOST;
    options.block_nesting_limit = DEPTH_MOST;
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(source, options) {
        match next {
            Ok((event, span)) => {
                let range = span.byte_range().unwrap_or_default();
                let at = Spot {
                    start: range.start,
                    end: range.end,
                };
                if let Err(finding) = builder.take(event, at) {
                    builder.findings.push(*finding);
                    return Err(builder.findings);
                }
            }
            Err(error) => {
                let start = error.marker().byte_offset().unwrap_or(0);
                let at = Spot {
                    start,
                    end: start + 1,
                };
                let message = format!("this is neither YAML nor JSON: {}", error.info());
                builder
                    .findings
                    .push(Finding::new(at, message).help_if(mend(source, start)));
                return Err(builder.findings);
            }
        }
    }
    match builder.root {
        Some(root) if builder.findings.is_empty() => Ok(root),
        Some(_) => Err(builder.findings),
        None => {
            Err(vec![Finding::new(whole, "the matrix is empty").expected(
                "a mapping with at least `image`, `axes` and `test`",
            )])
        }
    }
}

/// What most often is behind a syntax error at `at`.
fn mend(source: &str, at: usize) -> Option<String> {
    let line_start = source.get(..at)?.rfind('\n').map_or(0, |at| at + 1);
    let line = source.get(line_start..)?.split('\n').next()?;
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some("YAML is indented by spaces, never by tabs".to_owned());
    }
    let before = source.get(..line_start)?;
    for (open, close) in [('[', ']'), ('{', '}')] {
        if before.matches(open).count() > before.matches(close).count() {
            return Some(format!("a `{open}` before this is perhaps not closed"));
        }
    }
    if line.contains("${{") {
        return Some("put a text that holds `${{ ... }}` in quotes".to_owned());
    }
    if line.matches(": ").count() > 1 {
        return Some("put a text that holds `: ` in quotes".to_owned());
    }
    None
}

type Step = Result<(), Box<Finding>>;

/// A list or map that is not closed yet.
struct Open {
    at: Spot,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        places: HashMap<String, Spot>,
        key: Option<(String, Spot)>,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, (Node, usize)>,
    unfolded: usize,
    findings: Vec<Finding>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Spot) -> Step {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let text = "a second document begins here: a matrix file holds one";
                Err(Finding::new(at, text)
                    .help("put each matrix into a file of its own")
                    .into())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let forced = forced(tag.as_deref(), at, "str")?;
                let empty = at.start == at.end && style == ScalarStyle::Plain;
                let text = if empty {
                    String::new()
                } else {
                    text.into_owned()
                };
                if text.contains('\0') {
                    return Err(Finding::new(at, "a text holds a NUL character").into());
                }
                let plain = style == ScalarStyle::Plain && !forced;
                self.count(1 + text.len(), at)?;
                self.value(
                    Node {
                        at,
                        kind: Kind::Scalar(Scalar { text, plain }),
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                forced(tag.as_deref(), at, "seq")?;
                self.open(at, anchor, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                forced(tag.as_deref(), at, "map")?;
                let (entries, places) = (Vec::new(), HashMap::new());
                self.open(
                    at,
                    anchor,
                    OpenKind::Map {
                        entries,
                        places,
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            Event::Alias(id) => {
                let Some((node, weight)) = self.anchors.get(&id) else {
                    let text = "an alias stands inside the value that it names";
                    return Err(Finding::new(at, text).into());
                };
                let (mut node, weight) = (node.clone(), *weight);
                node.at = at;
                self.count(weight, at)?;
                self.value(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, weight: usize, at: Spot) -> Step {
        self.unfolded = self.unfolded.saturating_add(weight);
        if self.unfolded <= UNFOLDED_MOST {
            return Ok(());
        }
        let text = format!("the aliases unfold to more than {UNFOLDED_MOST} bytes");
        Err(Finding::new(at, text)
            .help("write values out, or use fewer aliases")
            .into())
    }

    fn open(&mut self, at: Spot, anchor: usize, kind: OpenKind) -> Step {
        if self.stack.len() >= DEPTH_MOST {
            let text = format!("lists and mappings are nested deeper than {DEPTH_MOST}");
            return Err(Finding::new(at, text).into());
        }
        if let Some(Open {
            kind: OpenKind::Map { key: None, .. },
            ..
        }) = self.stack.last()
        {
            return Err(not_a_key(at).into());
        }
        self.count(1, at)?;
        self.stack.push(Open { at, anchor, kind });
        Ok(())
    }

    fn close(&mut self, at: Spot) -> Step {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        let at = Spot {
            start: open.at.start,
            end: at.end.max(open.at.end),
        };
        let kind = match open.kind {
            OpenKind::List(items) => Kind::List(items),
            OpenKind::Map { entries, .. } => Kind::Map(entries),
        };
        self.value(Node { at, kind }, open.anchor)
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, node: Node, anchor: usize) -> Step {
        if anchor != 0 {
            let weight = weigh(&node);
            self.count(weight, node.at)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map {
                entries,
                places,
                key,
            } => {
                if let Some((name, key_at)) = key.take() {
                    entries.push(Entry {
                        key: name,
                        key_at,
                        value: node,
                    });
                    return Ok(());
                }
                let Kind::Scalar(scalar) = node.kind else {
                    return Err(not_a_key(node.at).into());
                };
                if scalar.plain && scalar.text == "<<" {
                    let text = "merge keys (`<<`) are not part of YAML 1.2";
                    let help = "use an alias for the whole value, or write the keys out";
                    return Err(Finding::new(node.at, text).help(help).into());
                }
                if let Some(first) = places.get(&scalar.text) {
                    let text = format!("the key {} is given twice", quote(&scalar.text));
                    let finding = Finding::new(node.at, text).note("first given here", *first);
                    self.findings.push(finding.help("keep one of the two"));
                }
                places.insert(scalar.text.clone(), node.at);
                *key = Some((scalar.text, node.at));
            }
        }
        Ok(())
    }
}

/// Whether a tag makes the value a text; tags that mean anything else are refused.
fn forced(tag: Option<&Tag>, at: Spot, fits: &str) -> Result<bool, Box<Finding>> {
    let Some(tag) = tag else { return Ok(false) };
    if tag.is_yaml_core_schema_tag(fits) || (tag.handle().is_empty() && tag.suffix() == "!") {
        return Ok(true);
    }
    let text = format!("the tag {} is not known", quote(&tag.original()));
    Err(Finding::new(at, text)
        .help("leave the tag away; quotes make a value a text")
        .into())
}

fn not_a_key(at: Spot) -> Finding {
    Finding::new(at, "a key must be a text")
        .help("put a text that begins with `{`, `[` or `*` in quotes")
}

/// What a value counts against [`UNFOLDED_MOST`].
fn weigh(node: &Node) -> usize {
    let inner: usize = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.len(),
        Kind::List(items) => items.iter().map(weigh).sum(),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| 1 + entry.key.len() + weigh(&entry.value))
            .sum(),
    };
    inner.saturating_add(1)
}
