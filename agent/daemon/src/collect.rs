//! What an ended attempt left: its results, its output, its artifacts. Everything there was written by a
//! test and is taken within limits. May not: follow a symbolic link, read anything but regular files, or
//! judge.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regatta_model::Outcome;
use regatta_model::case::Results;
use regatta_model::wire::{INLINE_LOG_MOST, LogPlace};

use crate::mould::SHARD_STATUS;

/// Most result files of one attempt.
pub const RESULT_FILES_MOST: usize = 1000;

/// Most bytes of all result files of one attempt.
pub const RESULT_BYTES_MOST: u64 = 64 << 20;

/// Most artifacts of one attempt.
pub const ARTIFACTS_MOST: usize = 1000;

/// Most bytes of all artifacts of one attempt.
pub const ARTIFACT_BYTES_MOST: u64 = 1 << 30;

/// Most entries that are looked at in one attempt's results or artifacts.
pub const ENTRIES_MOST: usize = 100_000;

/// Deepest directory that is looked into.
pub const DEPTH_MOST: usize = 32;

/// Longest path of an artifact, in bytes.
pub const PATH_MOST: usize = 1024;

/// Logs up to this size are compressed in memory, in bytes.
const IN_MEMORY: u64 = 256 << 10;

/// How hard logs are compressed: fast, since a test waits.
const LEVEL: i32 = 1;

/// A file that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Relative, with `/`.
    pub name: String,
    /// On this host.
    pub path: PathBuf,
    /// Its size when it was found.
    pub bytes: u64,
    device: u64,
    inode: u64,
}

impl Left {
    /// Opens it, if it is still the regular file that was found.
    pub fn open(&self) -> io::Result<File> {
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::NONBLOCK
            | rustix::fs::OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.path, flags, rustix::fs::Mode::empty())?;
        let file = File::from(opened);
        let meta = file.metadata()?;
        if !meta.is_file() || (meta.dev(), meta.ino()) != (self.device, self.inode) {
            return Err(io::Error::other("it is not the file that was there before"));
        }
        Ok(file)
    }

    /// Reads it, up to the size that it had when it was found.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(self.bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Regular files below `root` that match one of `globs`, sorted by name; all where there are no globs. What was left
/// out for a limit is told in a sentence.
pub fn find(root: &Path, globs: &[String], files: usize, bytes: u64) -> (Vec<Left>, Vec<String>) {
    let (set, mut problems) = glob_set(globs);
    let mut found = Vec::new();
    let mut total = 0_u64;
    let walk = walkdir::WalkDir::new(root)
        .min_depth(1)
        .max_depth(DEPTH_MOST)
        .sort_by_file_name();
    for (seen, entry) in walk.into_iter().enumerate() {
        if seen >= ENTRIES_MOST {
            problems.push(format!(
                "only the first {ENTRIES_MOST} files and directories were looked at"
            ));
            break;
        }
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_file() {
            continue;
        }
        let name = entry.path().strip_prefix(root).ok().and_then(Path::to_str);
        let Some(name) = name.filter(|name| is_plain(name)) else {
            let name = entry.file_name().to_string_lossy().into_owned();
            problems.push(format!(
                "{name:?} was left out: its name is too long or no plain text"
            ));
            continue;
        };
        if set.as_ref().is_some_and(|set| !set.is_match(name)) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        total = total.saturating_add(meta.len());
        if found.len() >= files || total > bytes {
            problems.push(format!(
                "{name:?} and what follows was left out: at most {files} files and {bytes} bytes are taken"
            ));
            break;
        }
        found.push(Left {
            name: name.to_owned(),
            path: entry.path().to_owned(),
            bytes: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
        });
    }
    problems.truncate(20);
    (found, problems)
}

/// Whether a name can stand in an address and in a file system elsewhere.
fn is_plain(name: &str) -> bool {
    name.len() <= PATH_MOST
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The globs as one; a glob that is none is told and matches nothing.
fn glob_set(globs: &[String]) -> (Option<GlobSet>, Vec<String>) {
    if globs.is_empty() {
        return (None, Vec::new());
    }
    let mut builder = GlobSetBuilder::new();
    let mut problems = Vec::new();
    for glob in globs {
        // `*` also crosses directories: tools that write one file a module choose their own depth.
        match GlobBuilder::new(glob).literal_separator(false).build() {
            Ok(glob) => drop(builder.add(glob)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    match builder.build() {
        Ok(set) => (Some(set), problems),
        Err(error) => {
            problems.push(error.to_string());
            (Some(GlobSet::empty()), problems)
        }
    }
}

/// Reads the results that an attempt left, but for `measured`: files that are measurements.
pub fn results(root: &Path, globs: &[String], measured: &BTreeSet<String>) -> Results {
    let defaults: Vec<String>;
    let declared = !globs.is_empty();
    let globs = if globs.is_empty() {
        defaults = regatta_verdict::results::GLOBS.map(str::to_owned).to_vec();
        &defaults
    } else {
        globs
    };
    let (mut left, mut problems) = find(root, globs, RESULT_FILES_MOST, RESULT_BYTES_MOST);
    left.retain(|left| !measured.contains(&left.name));
    left.retain(|left| left.name != SHARD_STATUS);
    let mut files = Vec::with_capacity(left.len());
    for left in left {
        match left.read() {
            Ok(bytes) => files.push((left.name, bytes)),
            Err(error) => problems.push(format!("{}: {error}", left.name)),
        }
    }
    if files.is_empty() && declared {
        // Any of them is enough: a matrix may name the files of several tools.
        problems.push(regatta_verdict::results::missing(&globs.join(", ")));
    }
    if files.is_empty() && problems.is_empty() {
        return Results::default();
    }
    let limits = regatta_verdict::results::Limits::default();
    let mut results = if declared {
        regatta_verdict::results::read(&files, &limits)
    } else {
        regatta_verdict::results::read_found(&files, &limits)
    };
    results.problems.extend(problems);
    results
}

/// What is asked of the results of a shard. Its test must say that it ran no more than the shard: else every shard ran
/// everything. Where results were asked for, it may run no test: there may be fewer than shards, and that none of the shards
/// runs one is seen where they come together.
pub fn of_shard(root: &Path, outcome: Outcome, globs: &[String], results: &mut Results) {
    let status = root.join(SHARD_STATUS);
    let touched = fs::symlink_metadata(status).is_ok_and(|meta| meta.is_file());
    let passed = outcome == Outcome::Exited { exit_code: 0 };
    // One that broke before it ran a test may have had no time for it.
    if !touched && (passed || !results.names.is_empty()) {
        results.problems.push(
            "the test did not touch $TEST_SHARD_STATUS_FILE: every shard would have run everything"
                .to_owned(),
        );
    } else if passed && !globs.is_empty() && results.names.is_empty() {
        results.found = false;
    }
}

/// Bytes at the end of a log that are looked at for what tells why a test failed.
const TAIL: usize = 256 << 10;

/// The lines of a log that tell why a test failed; empty where it cannot be read.
pub fn decisive(log: &Path) -> String {
    let mut tail = Vec::new();
    let mut keep = |_, bytes: &[u8]| -> io::Result<()> {
        tail.extend_from_slice(bytes);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
        }
        Ok(())
    };
    if crate::exec::Follower::new(log.to_owned())
        .copy(&mut keep)
        .is_err()
    {
        return String::new();
    }
    regatta_verdict::excerpt::decisive(&String::from_utf8_lossy(&tail))
}

/// A log made ready for its way to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Packed {
    /// It goes with the outcome.
    Place(LogPlace),
    /// It lies compressed in the file that was named, so many bytes long, and is to be uploaded first.
    File(u64),
}

/// Compresses a log; to `into` where it is too long to go with the outcome.
pub fn pack_log(log: &Path, into: &Path) -> io::Result<Packed> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Packed::Place(LogPlace::Empty));
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Packed::Place(LogPlace::Empty));
    }
    if length <= IN_MEMORY {
        let mut bytes = Vec::new();
        file.take(IN_MEMORY).read_to_end(&mut bytes)?;
        let packed = zstd::bulk::compress(&bytes, LEVEL)?;
        if packed.len() <= INLINE_LOG_MOST {
            let text = base64::engine::general_purpose::STANDARD.encode(packed);
            return Ok(Packed::Place(LogPlace::Inline(text)));
        }
        fs::write(into, &packed)?;
        return Ok(Packed::File(
            u64::try_from(packed.len()).unwrap_or(u64::MAX),
        ));
    }
    let mut encoder = zstd::stream::Encoder::new(File::create(into)?, LEVEL)?;
    io::copy(&mut file, &mut encoder)?;
    Ok(Packed::File(encoder.finish()?.metadata()?.len()))
}

/// The last lines of a log as text, at most `lines` and `bytes`.
pub fn last_lines(log: &Path, lines: usize, bytes: usize) -> String {
    /// The most that is read for it.
    const READ_MOST: u64 = 64 << 20;
    let mut raw = Vec::new();
    let read = File::open(log).and_then(|file| file.take(READ_MOST).read_to_end(&mut raw));
    if read.is_err() {
        return String::new();
    }
    let text = regatta_model::log::to_text(&raw);
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_end();
    let from = text
        .rmatch_indices('\n')
        .nth(lines.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    let from = from.max(text.len().saturating_sub(bytes));
    let from = (from..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    text.get(from..).unwrap_or_default().to_owned()
}
