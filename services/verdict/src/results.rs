//! Test results as tools write them, read into cases: JUnit XML in its dialects, TAP 13 and 14, the events of `go test -json` and
//! of libtest and nextest, the JSON of Jest, Vitest and Mocha, and a plain list; told apart by content. May not: trust a byte
//! of it, or go beyond [`Limits`].
//!
//! The key of a case is `CLASS::NAME`: its class, package or binary, and its name with its parameters. Where a dialect puts the
//! whole title in both, or gives no class, the name stands alone, behind the file where the format gives one, or the suite.
//! Never order, host, time or shard. The second case of one key gets `#2`.

mod collect;
mod go;
mod jest;
mod json;
mod junit;
mod libtest;
mod list;
mod tap;

use regatta_model::case::Results;

use collect::Collector;

/// Globs of result files where a matrix names none. Files of the last three that are no results are passed over.
pub const GLOBS: [&str; 5] = ["*.xml", "*.tap", "*.json", "*.jsonl", "*.tsv"];

/// What stands between a suite or subtest and what is in it.
const WITHIN: &str = " > ";

/// How much of what a container wrote is read. What is beyond a limit is a problem of the results, never dropped silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: usize,
    /// Bytes of all files.
    pub bytes: usize,
    /// Elements or subtests within one another.
    pub depth: usize,
    /// Cases of one attempt.
    pub cases: usize,
    /// Bytes of a case's key; a longer one is cut, and ends with a digest of the whole.
    pub name_bytes: usize,
    /// Bytes of all keys: results travel within one message.
    pub names_bytes: usize,
    /// Bytes of an attribute's value, or of the text in an element, that are looked at.
    pub text_bytes: usize,
    /// Attributes of an element that are looked at.
    pub attributes: usize,
    /// Problems that are told.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            bytes: 128 << 20,
            depth: 64,
            cases: 100_000,
            name_bytes: 1024,
            names_bytes: 6 << 20,
            text_bytes: 64 << 10,
            attributes: 64,
            problems: 20,
        }
    }
}

/// Reads the results of one attempt from its files, given by their paths below the results directory. Files are read in
/// the order of their paths; what cannot be read becomes a sentence in `problems`, and all else is kept.
pub fn read(files: &[(String, Vec<u8>)], limits: &Limits) -> Results {
    read_all(files, limits, true)
}

/// Like [`read`], for the files that [`GLOBS`] found. JSON and tables that are whole and no results are passed over, as if they
/// were not there: tests leave other files too.
pub fn read_found(files: &[(String, Vec<u8>)], limits: &Limits) -> Results {
    read_all(files, limits, false)
}

fn read_all(files: &[(String, Vec<u8>)], limits: &Limits, named: bool) -> Results {
    let mut files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
        .collect();
    files.sort_unstable();
    let mut collector = Collector::new(*limits);
    let texts: Vec<(&str, String)> = files
        .iter()
        .filter_map(|(path, bytes)| Some((*path, text(path, bytes, &mut collector)?)))
        .collect();
    let dialects: Vec<Dialect> = texts.iter().map(|(_, text)| dialect(text)).collect();
    let taps = dialects.iter().filter(|d| **d == Dialect::Tap).count();
    let mut passed_over = 0;
    for ((path, text), dialect) in texts.iter().zip(dialects) {
        let wrong = match dialect {
            Dialect::Junit => {
                junit::read(path, text, &mut collector);
                continue;
            }
            Dialect::Tap => {
                // TAP names no suite: where there are several files, each is one.
                let suite = (taps > 1).then(|| stem(path));
                tap::read(path, suite, text, &mut collector);
                continue;
            }
            Dialect::List => {
                list::read(path, text, &mut collector);
                continue;
            }
            Dialect::Json(json::Dialect::Go) => {
                go::read(path, text, &mut collector);
                continue;
            }
            Dialect::Json(json::Dialect::Libtest) => {
                libtest::read(path, text, &mut collector);
                continue;
            }
            Dialect::Json(json::Dialect::Jest) => {
                jest::read(path, text, &mut collector);
                continue;
            }
            Dialect::Json(json::Dialect::Mocha) => {
                jest::read_mocha(path, text, &mut collector);
                continue;
            }
            Dialect::Json(json::Dialect::Other) if !named && may_be_other(path) => {
                passed_over += 1;
                continue;
            }
            // What ends within a line may be results that were cut off.
            Dialect::Other if !named && may_be_other(path) && text.ends_with('\n') => {
                passed_over += 1;
                continue;
            }
            Dialect::Json(json::Dialect::Other) => "is JSON, and no results that are known here",
            Dialect::Json(json::Dialect::Broken) => "is no whole JSON: it was cut off",
            Dialect::Empty => "is empty",
            Dialect::Other => "is neither JUnit XML nor TAP, nor another known form of results",
        };
        collector.problem(&format!("{path}: {wrong}"));
    }
    collector.finish(files.len() > passed_over)
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Junit,
    Tap,
    List,
    Json(json::Dialect),
    Empty,
    Other,
}

fn dialect(text: &str) -> Dialect {
    let trimmed = text.trim_start();
    if trimmed.is_empty() {
        Dialect::Empty
    } else if trimmed.starts_with('<') {
        Dialect::Junit
    } else if let Some(dialect) = json::dialect(text) {
        Dialect::Json(dialect)
    } else if list::is_list(text) {
        Dialect::List
    } else if tap::is_tap(text) {
        Dialect::Tap
    } else {
        Dialect::Other
    }
}

/// Whether a file of this name is often something else than results.
fn may_be_other(path: &str) -> bool {
    [".json", ".jsonl", ".tsv"]
        .iter()
        .any(|ending| path.ends_with(ending))
}

/// The problem of an attempt that left no file for a glob that its matrix names: exit status alone is then not enough.
/// The agent adds it to [`Results::problems`]; the default globs of a matrix that names none may match nothing.
pub fn missing(glob: &str) -> String {
    format!("no results file matches {glob:?}, which the matrix expects")
}

/// A file's text, with what is no UTF-8 replaced; none where it is too large, which is a problem.
fn text(path: &str, bytes: &[u8], collector: &mut Collector) -> Option<String> {
    let limits = collector.limits;
    if bytes.len() > limits.file_bytes {
        let (is, most) = (bytes.len(), limits.file_bytes);
        let hint = "split the results into several files";
        collector.problem(&format!(
            "{path}: {is} bytes, of which {most} may be read: {hint}"
        ));
        return None;
    }
    if !collector.take_bytes(bytes.len()) {
        let most = limits.bytes;
        collector.problem(&format!(
            "{path}: not read: all results have {most} bytes at most"
        ));
        return None;
    }
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    Some(text)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let chars = char::decode_utf16(units.iter().map(|pair| unit(*pair)));
    chars
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A path without its last extension.
fn stem(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && !extension.contains('/') => stem,
        _ => path,
    }
}
