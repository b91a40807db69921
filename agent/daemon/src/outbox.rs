//! Outcomes on disk until the server acknowledged them. May not: lose one that [`Outbox::put`] took, or
//! fail to open because its last write was cut.
//!
//! An append-only segment file `NUMBER.seg` holds records: the length (u32, little endian), the first eight
//! bytes of the SHA-256 of the body, and the body, one `EndedAttempt` as JSON. Several outcomes are
//! written and synced to disk together. What was acknowledged is known in memory only: after a restart
//! it is said again, and the server acknowledges it again. A segment all of whose outcomes are
//! acknowledged is removed, or emptied while it is the one written to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use regatta_model::case::{NamedSet, ToldNames, ToldResults};
use regatta_model::wire::{ENDED_MOST, EndedAttempt, SYNC_BYTES_MOST, Sets};
use regatta_model::{AttemptId, Digest};

/// A segment at least this long is followed by a new one, in bytes.
pub const SEGMENT_MOST: u64 = 4 << 20;

/// Longest outcome, in bytes of JSON: half of what fits into one sync.
pub const OUTCOME_MOST: usize = SYNC_BYTES_MOST / 2;

/// An acknowledged segment at least this long is emptied, in bytes.
const EMPTY_ABOVE: u64 = 64 << 10;

const HEADER: usize = 12;

/// The outcomes that wait.
#[derive(Debug)]
pub struct Outbox {
    directory: PathBuf,
    file: File,
    number: u64,
    length: u64,
    /// By order of arrival.
    waiting: BTreeMap<u64, Waiting>,
    by_attempt: BTreeMap<AttemptId, u64>,
    next: u64,
    /// How many waiting outcomes lie in which segment.
    segments: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Waiting {
    segment: u64,
    /// Of its JSON, and of the names of its cases in that.
    bytes: usize,
    names: usize,
    set: NamedSet,
    outcome: EndedAttempt,
}

/// Bytes that names have in JSON at least.
fn bytes_of_names(names: &[String]) -> usize {
    names.iter().map(|name| name.len() + 3).sum()
}

impl Outbox {
    /// Opens the outbox, with what was not acknowledged. A cut or corrupt tail of a segment is dropped.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            numbers.extend::<Option<u64>>(number);
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let file = create(directory, number)?;
        let mut outbox = Self {
            directory: directory.to_owned(),
            file,
            number,
            length: 0,
            waiting: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            next: 0,
            segments: BTreeMap::from([(number, 0)]),
        };
        for number in numbers {
            let outcomes = read_segment(&segment_path(directory, number))?;
            outbox.segments.insert(number, 0);
            for (outcome, bytes) in outcomes {
                outbox.keep(outcome, bytes, number);
            }
            outbox.tidy(number)?;
        }
        Ok(outbox)
    }

    /// Takes outcomes; when this returns without error, they are on disk. An outcome of an attempt that
    /// has one already is left out: the first counts.
    pub fn put(&mut self, outcomes: Vec<EndedAttempt>) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut sizes = Vec::new();
        for outcome in &outcomes {
            let body = serde_json::to_vec(outcome)?;
            let length = u32::try_from(body.len())
                .ok()
                .filter(|_| body.len() <= OUTCOME_MOST);
            let Some(length) = length else {
                let text = format!(
                    "the outcome of {} is {} bytes long",
                    outcome.attempt,
                    body.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(&checksum(&body));
            buffer.extend_from_slice(&body);
            sizes.push(body.len());
        }
        if self.length >= SEGMENT_MOST {
            let number = self.number + 1;
            self.file = create(&self.directory, number)?;
            let former = std::mem::replace(&mut self.number, number);
            self.length = 0;
            self.segments.insert(number, 0);
            self.tidy(former)?;
        }
        let written = self
            .file
            .write_all(&buffer)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is half written must not be followed by anything.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        for (outcome, bytes) in outcomes.into_iter().zip(sizes) {
            self.keep(outcome, bytes, self.number);
        }
        Ok(())
    }

    fn keep(&mut self, outcome: EndedAttempt, bytes: usize, segment: u64) {
        if self.by_attempt.contains_key(&outcome.attempt) {
            return;
        }
        self.by_attempt.insert(outcome.attempt.clone(), self.next);
        self.waiting.insert(
            self.next,
            Waiting {
                segment,
                bytes,
                names: bytes_of_names(&outcome.results.names),
                set: outcome.results.named_set(),
                outcome,
            },
        );
        self.next += 1;
        *self.segments.entry(segment).or_default() += 1;
    }

    /// The server has this outcome.
    pub fn acknowledge(&mut self, attempt: &AttemptId) -> io::Result<()> {
        let Some(number) = self.by_attempt.remove(attempt) else {
            return Ok(());
        };
        let Some(waiting) = self.waiting.remove(&number) else {
            return Ok(());
        };
        if let Some(count) = self.segments.get_mut(&waiting.segment) {
            *count = count.saturating_sub(1);
        }
        self.tidy(waiting.segment)
    }

    /// Removes or empties a segment in which nothing waits.
    fn tidy(&mut self, segment: u64) -> io::Result<()> {
        if self.segments.get(&segment) != Some(&0) {
            return Ok(());
        }
        if segment != self.number {
            self.segments.remove(&segment);
            return fs::remove_file(segment_path(&self.directory, segment));
        }
        if self.length > EMPTY_ABOVE {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.length = 0;
        }
        Ok(())
    }

    /// The outcomes for one sync, the oldest first, within [`ENDED_MOST`] and [`SYNC_BYTES_MOST`]. `sets`: which names
    /// need not be told.
    pub fn batch(&self, sets: &Sets) -> Vec<EndedAttempt<ToldResults>> {
        let mut bytes = 0;
        let mut telling = sets.telling();
        let mut batch = Vec::new();
        for waiting in self.waiting.values().take(ENDED_MOST) {
            let told = telling.tell(&waiting.outcome, waiting.set);
            bytes += match told.results.names {
                ToldNames::Listed(_) => waiting.bytes,
                ToldNames::Set(_) => waiting.bytes.saturating_sub(waiting.names),
            };
            if bytes > OUTCOME_MOST {
                break;
            }
            batch.push(told);
        }
        batch
    }

    /// Every outcome that waits: attempt and generation.
    pub fn attempts(&self) -> impl Iterator<Item = (&AttemptId, u64)> {
        self.waiting
            .values()
            .map(|w| (&w.outcome.attempt, w.outcome.generation))
    }

    /// Whether an outcome of this attempt waits.
    pub fn has(&self, attempt: &AttemptId) -> bool {
        self.by_attempt.contains_key(attempt)
    }

    /// How many outcomes wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.seg"))
}

/// Makes a segment that outlives a crash of the host: its directory is synced, too.
fn create(directory: &Path, number: u64) -> io::Result<File> {
    let path = segment_path(directory, number);
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    for (to, from) in sum.iter_mut().zip(Digest::of(body).as_bytes()) {
        *to = *from;
    }
    sum
}

/// The whole records of a segment, up to the first that is not.
fn read_segment(path: &Path) -> io::Result<Vec<(EndedAttempt, usize)>> {
    let mut file = io::BufReader::new(File::open(path)?);
    let mut outcomes = Vec::new();
    let mut header = [0; HEADER];
    while file.read_exact(&mut header).is_ok() {
        let [a, b, c, d, sum @ ..] = header;
        let Ok(length) = usize::try_from(u32::from_le_bytes([a, b, c, d])) else {
            break;
        };
        if length > OUTCOME_MOST {
            break;
        }
        let mut body = vec![0; length];
        if file.read_exact(&mut body).is_err() || checksum(&body) != sum {
            break;
        }
        let Ok(outcome) = serde_json::from_slice(&body) else {
            break;
        };
        outcomes.push((outcome, length));
    }
    Ok(outcomes)
}
