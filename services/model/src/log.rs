//! The file format of captured output: standard output and error in the order they were read, with
//! times. May not: read or write files; it turns chunks into bytes and back.
//!
//! A log is a sequence of records: an eight-byte header (little endian: microseconds since the start of the
//! program, 5 bytes; the stream, 1 byte; the length, 2 bytes) and that many bytes. It can be cut
//! anywhere: a reader takes what is whole.

/// Where a chunk of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Regatta's own note: output dropped here, set-up begins, ...
    Note,
}

/// One piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Microseconds since the start of the program.
    pub micros: u64,
    /// Which stream.
    pub stream: Stream,
    /// The bytes, as written.
    pub bytes: &'a [u8],
}

/// Most bytes that one record holds.
pub const CHUNK_MOST: usize = 65_535;

/// Bytes of a record's header.
pub const HEADER: usize = 8;

/// Appends a chunk, split into as many records as it needs. Times above 2^40 µs (12 days) are cut to that.
pub fn encode(micros: u64, stream: Stream, bytes: &[u8], into: &mut Vec<u8>) {
    let [time @ .., _, _, _] = micros.min((1 << 40) - 1).to_le_bytes();
    let stream = match stream {
        Stream::Out => 1,
        Stream::Err => 2,
        Stream::Note => 3,
    };
    for piece in bytes.chunks(CHUNK_MOST) {
        let [low, high] = u16::try_from(piece.len()).unwrap_or(u16::MAX).to_le_bytes();
        into.extend_from_slice(&time);
        into.extend_from_slice(&[stream, low, high]);
        into.extend_from_slice(piece);
    }
}

/// Takes the first whole record off `log`; none if it is empty or cut. A stream that is not known reads as a note.
pub fn decode<'a>(log: &mut &'a [u8]) -> Option<Chunk<'a>> {
    let (header, rest) = log.split_first_chunk::<HEADER>()?;
    let [time @ .., stream, low, high] = *header;
    let length = usize::from(u16::from_le_bytes([low, high]));
    let (bytes, rest) = rest.split_at_checked(length)?;
    *log = rest;
    let stream = match stream {
        1 => Stream::Out,
        2 => Stream::Err,
        _ => Stream::Note,
    };
    Some(Chunk {
        micros: time
            .iter()
            .rev()
            .fold(0, |micros, byte| (micros << 8) | u64::from(*byte)),
        stream,
        bytes,
    })
}

/// All bytes of all streams in order, notes as lines of their own: what a person reads.
pub fn to_text(mut log: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(log.len());
    while let Some(chunk) = decode(&mut log) {
        if chunk.stream == Stream::Note && text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(chunk.bytes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_reads_back_as_written_and_a_cut_one_up_to_the_cut() {
        let long = vec![b'x'; CHUNK_MOST + 10];
        let mut log = Vec::new();
        encode(5, Stream::Out, b"hello\n", &mut log);
        encode(7, Stream::Err, &long, &mut log);
        encode(u64::MAX, Stream::Note, b"end\n", &mut log);
        let mut rest = log.as_slice();
        let first = decode(&mut rest).unwrap();
        assert_eq!(
            (first.micros, first.stream, first.bytes),
            (5, Stream::Out, &b"hello\n"[..])
        );
        assert_eq!(decode(&mut rest).unwrap().bytes.len(), CHUNK_MOST);
        assert_eq!(decode(&mut rest).unwrap().bytes.len(), 10);
        assert_eq!(decode(&mut rest).unwrap().micros, (1 << 40) - 1);
        assert_eq!(decode(&mut rest), None);
        assert_eq!(to_text(&log).len(), 6 + long.len() + 1 + 4);
        for cut in 0..HEADER + 6 {
            assert!(decode(&mut &log[..cut]).is_none());
        }
    }
}
