//! A container's output on its way into the log: the first half of what may be kept is written at once, the
//! last half goes round in two files of that size, and what falls out between is counted. May
//! not: hold output in memory, or keep more than the limit.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use regatta_model::log::{self, Stream};

/// Bytes that are copied at once when the tail joins the log.
const COPIED_AT_ONCE: u64 = 1 << 20;

/// Where one container's output goes.
#[derive(Debug)]
pub(crate) struct Output {
    log: File,
    head_left: u64,
    tail_most: u64,
    tail: Option<Tail>,
    /// For the tail, made when it is needed.
    directory: PathBuf,
    total: u64,
    kept: u64,
    encoded: Vec<u8>,
    /// The first error of a write; what comes after it is dropped.
    broken: Option<io::Error>,
}

/// The two files in which the end of the output goes round.
#[derive(Debug)]
struct Tail {
    older: Option<Segment>,
    newer: Segment,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Bytes of output in it, headers not counted.
    bytes: u64,
}

/// What became of the output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes that the container wrote.
    pub total: u64,
    /// Bytes of them that are not in the log.
    pub dropped: u64,
}

impl Output {
    /// Makes the log; it keeps `most` bytes. `directory` is made when output exceeds half of that.
    pub(crate) fn create(path: &Path, most: u64, directory: PathBuf) -> io::Result<Self> {
        Ok(Self {
            // Made anew where it is missing; never through a link that somebody put there.
            log: File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)?,
            head_left: most / 2,
            tail_most: most - most / 2,
            tail: None,
            directory,
            total: 0,
            kept: 0,
            encoded: Vec::new(),
            broken: None,
        })
    }

    /// Takes what was read from a stream.
    pub(crate) fn take(&mut self, micros: u64, stream: Stream, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(length);
        if self.broken.is_some() {
            return;
        }
        let head = usize::try_from(self.head_left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let (head, tail) = bytes.split_at_checked(head).unwrap_or((bytes, &[]));
        let done = self
            .take_head(micros, stream, head)
            .and_then(|()| self.take_tail(micros, stream, tail));
        self.broken = done.err();
    }

    fn take_head(&mut self, micros: u64, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.encoded.clear();
        log::encode(micros, stream, bytes, &mut self.encoded);
        self.log.write_all(&self.encoded)?;
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        self.head_left -= length;
        self.kept += length;
        Ok(())
    }

    fn take_tail(&mut self, micros: u64, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let tail = if let Some(tail) = &mut self.tail {
                tail
            } else {
                let newer = Segment::create(&self.directory)?;
                self.tail.insert(Tail { older: None, newer })
            };
            if tail.newer.bytes >= self.tail_most {
                if self.tail_most == 0 {
                    return Ok(());
                }
                let newer = Segment::create(&self.directory)?;
                tail.older = Some(std::mem::replace(&mut tail.newer, newer));
            }
            let room = usize::try_from(self.tail_most - tail.newer.bytes).unwrap_or(usize::MAX);
            let (now, later) = bytes
                .split_at_checked(room.min(bytes.len()))
                .unwrap_or((bytes, &[]));
            self.encoded.clear();
            log::encode(micros, stream, now, &mut self.encoded);
            tail.newer.file.write_all(&self.encoded)?;
            tail.newer.bytes += u64::try_from(now.len()).unwrap_or(0);
            bytes = later;
        }
        Ok(())
    }

    /// Puts a note of Regatta's own at the end; it does not count as output.
    pub(crate) fn note(&mut self, micros: u64, text: &str) {
        self.encoded.clear();
        log::encode(micros, Stream::Note, text.as_bytes(), &mut self.encoded);
        let written = self.log.write_all(&self.encoded);
        if let (Err(error), None) = (written, &self.broken) {
            self.broken = Some(error);
        }
    }

    /// Joins the tail to the log.
    pub(crate) fn finish(mut self, micros: u64) -> Written {
        if let Some(tail) = self.tail.take()
            && let Err(error) = self.join(tail, micros)
        {
            self.broken.get_or_insert(error);
        }
        let dropped = self.total - self.kept;
        if let Some(error) = self.broken.take() {
            self.note(
                micros,
                &format!("regatta: the log could not be written: {error}\n"),
            );
        }
        Written {
            total: self.total,
            dropped,
        }
    }

    fn join(&mut self, tail: Tail, micros: u64) -> io::Result<()> {
        let older = tail.older.as_ref().map_or(0, |older| older.bytes);
        let too_many = (older + tail.newer.bytes).saturating_sub(self.tail_most);
        let keeps = older + tail.newer.bytes - too_many;
        let dropped = self.total - self.kept - keeps;
        if dropped > 0 {
            self.note(
                micros,
                &format!("regatta: {dropped} bytes of output dropped here\n"),
            );
        }
        let mut skip = too_many;
        for segment in tail.older.into_iter().chain([tail.newer]) {
            self.append(segment, &mut skip)?;
        }
        self.kept += keeps;
        Ok(())
    }

    /// Copies a segment's records, without its first `skip` bytes of output.
    fn append(&mut self, mut segment: Segment, skip: &mut u64) -> io::Result<()> {
        segment.file.seek(SeekFrom::Start(0))?;
        let mut read = Vec::new();
        loop {
            let before = read.len();
            Read::by_ref(&mut segment.file)
                .take(COPIED_AT_ONCE)
                .read_to_end(&mut read)?;
            if read.len() == before {
                return Ok(());
            }
            let mut rest = read.as_slice();
            self.encoded.clear();
            while let Some(chunk) = log::decode(&mut rest) {
                let cut = usize::try_from(*skip)
                    .unwrap_or(usize::MAX)
                    .min(chunk.bytes.len());
                *skip -= u64::try_from(cut).unwrap_or(0);
                let left = chunk.bytes.get(cut..).unwrap_or_default();
                log::encode(chunk.micros, chunk.stream, left, &mut self.encoded);
            }
            self.log.write_all(&self.encoded)?;
            read = rest.to_vec();
        }
    }
}

impl Segment {
    /// A file without a name, so that a crash leaves nothing.
    fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("tail");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file, bytes: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(most: u64, pieces: &[&[u8]]) -> (String, Written) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let mut output = Output::create(&path, most, scratch.path().to_owned()).unwrap();
        for piece in pieces {
            output.take(1, Stream::Out, piece);
        }
        let written = output.finish(2);
        let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the log stays: {left:?}");
        (
            String::from_utf8(log::to_text(&fs::read(path).unwrap())).unwrap(),
            written,
        )
    }

    #[test]
    fn what_fits_is_kept_as_written() {
        assert_eq!(
            run(10, &[b"abc", b"defg", b"hij"]),
            (
                "abcdefghij".to_owned(),
                Written {
                    total: 10,
                    dropped: 0
                }
            )
        );
    }

    #[test]
    fn the_middle_of_too_much_is_dropped_and_said() {
        let (text, written) = run(10, &[b"abcdefg", b"hijklmnopq", b"rstuvwx", b"yz"]);
        assert_eq!(
            text,
            "abcde\nregatta: 16 bytes of output dropped here\nvwxyz"
        );
        assert_eq!(
            written,
            Written {
                total: 26,
                dropped: 16
            }
        );
    }

    #[test]
    fn any_amount_in_any_pieces_keeps_both_ends() {
        let all: Vec<u8> = (b'a'..=b'z').cycle().take(5_000).collect();
        for piece in [1, 7, 64, 999, 5_000] {
            let pieces: Vec<&[u8]> = all.chunks(piece).collect();
            let (text, written) = run(101, &pieces);
            assert_eq!(
                written,
                Written {
                    total: 5_000,
                    dropped: 4_899
                }
            );
            let bytes = text.as_bytes();
            assert!(bytes.starts_with(&all[..50]), "{text}");
            assert!(bytes.ends_with(&all[5_000 - 51..]), "{text}");
        }
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let (text, written) = run(0, &[b"abc"]);
        assert_eq!(
            text,
            "\nregatta: 3 bytes of output dropped here\n".trim_start()
        );
        assert_eq!(
            written,
            Written {
                total: 3,
                dropped: 3
            }
        );
    }
}
