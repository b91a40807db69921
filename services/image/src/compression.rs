//! Which compression a stream has, by its first bytes, and reading through it. May not: trust a media
//! type or a file name.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use regatta_model::Digest;

use crate::error::{Error, Result};

/// Memory that an xz stream may ask for, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// Largest window of a zstd stream, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes read at once.
pub(crate) const CHUNK: usize = 128 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
    /// xz, one or more streams.
    Xz,
}

impl Compression {
    /// By the first bytes (six suffice).
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one before the first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer compressed so; none for xz, which OCI does not know.
    pub const fn layer_media_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some("application/vnd.oci.image.layer.v1.tar"),
            Self::Gzip => Some("application/vnd.oci.image.layer.v1.tar+gzip"),
            Self::Zstd => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
            Self::Xz => None,
        }
    }
}

/// A reader of the decompressed content, whatever the compression. It may leave bytes of `reader`
/// unread, and may have read further than it gave.
pub fn decoder<'a>(reader: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut reader = BufReader::with_capacity(CHUNK, reader);
    // One `fill_buf` may be short; magic numbers are looked for in at least six bytes.
    let mut head = Vec::new();
    while head.len() < 6 {
        let have = reader
            .fill_buf()
            .map_err(|e| Error::io("read the archive", e))?;
        if have.is_empty() {
            break;
        }
        let take = have.len().min(6 - head.len());
        head.extend(have.iter().take(take));
        reader.consume(take);
    }
    let compression = Compression::detect(&head);
    let whole = BufReader::with_capacity(CHUNK, io::Cursor::new(head).chain(reader));
    let fail = |e| Error::io("start to decompress", e);
    let decoder: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(fail)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(fail)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .map_err(|e| fail(e.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(whole, stream))
        }
    };
    Ok((compression, decoder))
}

/// A reader that takes the digest and the length of what passes.
pub(crate) struct Hashing<R> {
    reader: R,
    hasher: Option<Sha256>,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            hasher: Some(Sha256::new()),
            count: Rc::default(),
        }
    }

    /// Counts only: the digest is known from elsewhere.
    pub(crate) fn without_digest(mut self) -> Self {
        self.hasher = None;
        self
    }

    /// How many bytes passed; stays true while the reader is lent out.
    pub(crate) fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.count)
    }

    /// Reads what is left, checking after each chunk, and gives digest and length of all of it.
    pub(crate) fn finish(
        mut self,
        mut check: impl FnMut(u64) -> Result<()>,
    ) -> Result<(Digest, u64)> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let got = self
                .read(&mut buffer)
                .map_err(|e| Error::io("read the archive", e))?;
            check(self.count.get())?;
            if got == 0 {
                let digest = self
                    .hasher
                    .map_or([0; 32], |hasher| hasher.finalize().into());
                return Ok((Digest::from_bytes(digest), self.count.get()));
            }
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buffer.get(..got).unwrap_or_default());
        }
        self.count.set(
            self.count
                .get()
                .saturating_add(u64::try_from(got).unwrap_or(u64::MAX)),
        );
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        let frame = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        for (want, bytes) in [
            (Compression::None, b"one two".to_vec()),
            (Compression::Gzip, [gzip(b"one "), gzip(b"two")].concat()),
            (Compression::Zstd, [frame(b"one "), frame(b"two")].concat()),
            (
                Compression::Zstd,
                [skippable.to_vec(), frame(b"one two")].concat(),
            ),
        ] {
            let (found, mut reader) = decoder(bytes.as_slice()).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!((found, text.as_str()), (want, "one two"));
        }
    }

    #[test]
    fn the_digest_counts_every_byte_even_those_nobody_asked_for() {
        let mut hashing = Hashing::new(b"abcdef".as_slice());
        let mut two = [0; 2];
        hashing.read_exact(&mut two).unwrap();
        assert_eq!(
            hashing.finish(|_| Ok(())).unwrap(),
            (Digest::of(b"abcdef"), 6)
        );
    }
}
