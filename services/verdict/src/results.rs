//! Test results as tools write them, read into cases: JUnit XML in the dialects of pytest, nextest, Surefire, gotestsum and
//! jest-junit, and TAP 13 and 14, told apart by content. May not: trust a byte of it, or go beyond [`Limits`].
//!
//! The key of a case is `CLASS::NAME`: its class, package or binary, and its name with its parameters. Where a dialect puts the
//! whole title in both, or gives no class, the name stands alone, behind the file where the format gives one, or the suite.
//! Never order, host or time. The second case of one key gets `#2`.

mod collect;
mod junit;
mod tap;

use regatta_model::case::Results;

use collect::Collector;

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
    let taps = texts.iter().filter(|(_, text)| tap::is_tap(text)).count();
    for (path, text) in &texts {
        if text.trim_start().starts_with('<') {
            junit::read(path, text, &mut collector);
        } else if tap::is_tap(text) {
            // TAP names no suite: where there are several files, each is one.
            let suite = (taps > 1).then(|| stem(path));
            tap::read(path, suite, text, &mut collector);
        } else {
            let what = if text.trim().is_empty() {
                "is empty"
            } else {
                "is neither JUnit XML nor TAP"
            };
            collector.problem(&format!("{path}: {what}"));
        }
    }
    collector.finish(!files.is_empty())
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
