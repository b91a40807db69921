//! Reading tar streams entry by entry, strictly: V7, ustar, PAX and GNU, sparse files included. Where
//! two programs could read a header differently, it is refused, so that what was looked at is what is
//! unpacked. May not: touch the file system.

use std::io::Read;

use crate::error::{Error, Result};
use crate::limits;

mod header;
mod number;
mod pax;
mod sparse;

use header::Header;
use number::number;
use pax::Extended;
pub(crate) use sparse::Piece;

/// Size of a block; headers and contents fill whole ones.
pub(crate) const BLOCK: usize = 512;
/// The same as a length.
const BLOCK_BYTES: u64 = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry's header, with everything from extended headers applied.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As the archive gives it, without its extended forms.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Permission bits, set-user-id and the like included.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Where the stored bytes belong; none: the file has no holes.
    pub(crate) pieces: Option<Vec<Piece>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream.
pub(crate) struct TarReader<R> {
    input: R,
    /// Bytes of the current entry's content that were not read yet.
    left: u64,
    /// Bytes of padding after it.
    padding: u64,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The next entry; none after the last. What was not read of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        let mut extended: Option<Extended> = None;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip()?;
            let Some(block) = self.header()? else {
                self.ended = true;
                if extended.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(wrong("it ends after an extended header"));
                }
                return Ok(None);
            };
            let header = Header(&block);
            let size = header.size()?;
            match header.flag() {
                b'x' => {
                    let records = self.small(size, "an extended header")?;
                    if extended.replace(Extended::parse(&records)?).is_some() {
                        return Err(wrong("two extended headers stand before one entry"));
                    }
                }
                b'g' => pax::check_global(&self.small(size, "a global extended header")?)?,
                b'L' => set_once(&mut long_name, self.small(size, "a long name")?)?,
                b'K' => set_once(&mut long_link, self.small(size, "a long link name")?)?,
                _ => {
                    let extended = extended.unwrap_or_default();
                    return self
                        .entry(&header, size, extended, long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    /// Puts an entry together; the reader then stands at its content.
    fn entry(
        &mut self,
        header: &Header<'_>,
        header_size: u64,
        mut extended: Extended,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        if (long_name.is_some() && extended.path.is_some())
            || (long_link.is_some() && extended.link.is_some())
        {
            return Err(wrong("a name is given both by a PAX and by a GNU header"));
        }
        let sparse_name = extended.sparse.name.take();
        let path = sparse_name
            .or(extended.path.take())
            .or(long_name.map(until_nul))
            .unwrap_or_else(|| header.path());
        let link = extended
            .link
            .take()
            .or(long_link.map(until_nul))
            .unwrap_or_else(|| header.link());
        let fail = |why: &str| Error::hostile(&path, why);
        if path.is_empty() {
            return Err(fail("it has no name"));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(fail("its name or target contains a NUL"));
        }
        let kind = header.kind(&path).map_err(|why| fail(&why))?;
        let stored = match extended.size {
            // A size of its own only where the header's field is too short for it; writers then
            // leave the field empty or full.
            Some(size)
                if size != header_size
                    && (size <= number::OCTAL_MOST
                        || ![0, number::OCTAL_MOST].contains(&header_size)) =>
            {
                return Err(fail(
                    "its header and its extended header give different sizes",
                ));
            }
            Some(size) => size,
            None => header_size,
        };
        if kind != Kind::File && stored != 0 {
            return Err(fail("it is no file, and yet has content"));
        }
        self.begin(stored);
        let old_sparse = header.flag() == b'S';
        let (size, pieces) = if old_sparse || extended.sparse.is_any() {
            if kind != Kind::File {
                return Err(fail("it is no file, and yet sparse"));
            }
            let map = if old_sparse {
                self.old_sparse(header)
            } else {
                self.pax_sparse(&mut extended.sparse)
            };
            let (size, pieces) = map.map_err(|why| fail(&why))?;
            sparse::check(&pieces, self.left, size).map_err(|why| fail(&why))?;
            (size, Some(pieces))
        } else {
            (stored, None)
        };
        let id = |from_pax: Option<u64>, field: &[u8], which: &str| {
            let value = match from_pax {
                Some(value) => value,
                None => number(field)
                    .and_then(|value| u64::try_from(value).ok())
                    .ok_or_else(|| fail(&format!("its {which} is no number")))?,
            };
            // The largest value means "leave it" to chown.
            u32::try_from(value)
                .ok()
                .filter(|value| *value != u32::MAX)
                .ok_or_else(|| fail(&format!("its {which} {value} is beyond what Linux takes")))
        };
        let uid = id(extended.uid, header.field(108, 8), "user id")?;
        let gid = id(extended.gid, header.field(116, 8), "group id")?;
        let mode = number(header.field(100, 8)).ok_or_else(|| fail("its mode is no number"))?;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => (
                number(header.field(136, 12))
                    .and_then(|value| i64::try_from(value).ok())
                    .ok_or_else(|| fail("its time is no number"))?,
                0,
            ),
        };
        let mode = u32::try_from(mode & 0o7777).unwrap_or(0);
        let xattrs = extended.xattrs;
        Ok(Entry {
            path,
            kind,
            link,
            mode,
            uid,
            gid,
            mtime,
            size,
            pieces,
            xattrs,
        })
    }

    /// Content follows.
    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
    }

    /// Reads a header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            // Some writers leave the two empty blocks at the end out.
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(wrong("it ends in the middle of a header")),
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        let wanted = block.get(148..156).and_then(number);
        if wanted != Some(i128::from(sum)) {
            return Err(wrong(
                "a header's checksum is wrong; it is no tar archive, or a damaged one",
            ));
        }
        Ok(Some(block))
    }

    /// The content of an extension entry, whole.
    fn small(&mut self, size: u64, what: &str) -> Result<Vec<u8>> {
        if size > limits::HEADER_BYTES {
            return Err(Error::limit(
                format!("{what} of {size} bytes"),
                "unpack.header_bytes",
                limits::HEADER_BYTES,
            ));
        }
        self.begin(size);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.read(&mut bytes)? != bytes.len() {
            return Err(wrong("it ends in the middle of an extended header"));
        }
        Ok(bytes)
    }

    /// Reads content of the current entry until the buffer is full or the content ends.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let wanted = buffer.get_mut(..most).unwrap_or_default();
        let got = self.fill(wanted)?;
        self.left = self.left.saturating_sub(u64::try_from(got).unwrap_or(0));
        if got < most {
            return Err(wrong("it ends in the middle of an entry's content"));
        }
        Ok(got)
    }

    /// Skips the rest of the current entry.
    fn skip(&mut self) -> Result<()> {
        let mut rest = self.left.saturating_add(self.padding);
        let content = self.left > 0;
        let mut buffer = [0; 8 << 10];
        while rest > 0 {
            let most = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let got = self.fill(buffer.get_mut(..most).unwrap_or_default())?;
            rest = rest.saturating_sub(u64::try_from(got).unwrap_or(0));
            if got < most {
                // Padding after the last entry may be missing; content may not.
                if content {
                    return Err(wrong("it ends in the middle of an entry's content"));
                }
                break;
            }
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads until the buffer is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read the archive", e)),
            }
        }
        Ok(got)
    }
}

fn set_once(slot: &mut Option<Vec<u8>>, value: Vec<u8>) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong("two long names stand before one entry")),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Something is wrong with the archive as a whole.
pub(crate) fn wrong(why: &str) -> Error {
    Error::malformed("the tar archive", why)
}
