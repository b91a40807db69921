//! Sparse files in tar: GNU's old form and its three PAX forms, as one list of pieces. May not: believe
//! a map that overlaps, runs backwards or holds more than the entry does.

use std::io::Read;

use super::number::{decimal, number};
use super::{BLOCK, BLOCK_BYTES, Header, TarReader, wrong};
use crate::error::Result;
use crate::limits;

/// Stored bytes of a sparse file: where they belong and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Size of the file and its pieces, or what is wrong.
type Map = Result<(u64, Vec<Piece>), String>;

/// The `GNU.sparse.*` records of an extended header.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    map: Vec<u64>,
}

impl PaxSparse {
    pub(super) fn is_any(&self) -> bool {
        self.major.is_some() || self.size.is_some() || !self.map.is_empty()
    }

    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        let whole = |value: &[u8]| {
            decimal(value).ok_or_else(|| wrong("a number in a sparse file's header is none"))
        };
        match name {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(whole(value)?),
            b"minor" => self.minor = Some(whole(value)?),
            b"realsize" | b"size" => self.size = Some(whole(value)?),
            b"offset" | b"numbytes" => self.push(whole(value)?)?,
            b"map" if !value.is_empty() => {
                for text in value.split(|byte| *byte == b',') {
                    self.push(whole(text)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, value: u64) -> Result<()> {
        if self.map.len() >= 2 * limits::SPARSE_PIECES {
            return Err(wrong("a sparse file has too many pieces"));
        }
        self.map.push(value);
        Ok(())
    }
}

impl<R: Read> TarReader<R> {
    /// The map of GNU's old form, from the header and the blocks after it.
    pub(super) fn old_sparse(&mut self, header: &Header<'_>) -> Map {
        let no_number = || "its map holds no number".to_owned();
        let read = |field: &[u8]| {
            number(field)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(no_number)
        };
        let size = read(header.field(483, 12))?;
        let mut pieces = Vec::new();
        let take = |pieces: &mut Vec<Piece>, fields: &[u8]| -> Result<(), String> {
            for pair in fields.chunks_exact(24) {
                let (offset, length) = pair.split_at(12);
                if length.iter().all(|byte| *byte == 0) {
                    continue;
                }
                if pieces.len() >= limits::SPARSE_PIECES {
                    return Err("it has too many pieces".into());
                }
                pieces.push(Piece {
                    offset: read(offset)?,
                    length: read(length)?,
                });
            }
            Ok(())
        };
        take(&mut pieces, header.field(386, 96))?;
        let mut more = header.field(482, 1) == [1];
        while more {
            // These blocks are no part of the content's size.
            let mut block = [0; BLOCK];
            if self.fill(&mut block).map_err(|e| e.to_string())? != BLOCK {
                return Err("the archive ends in its map".into());
            }
            take(&mut pieces, block.get(..504).unwrap_or_default())?;
            more = block.get(504) == Some(&1);
        }
        Ok((size, pieces))
    }

    /// The map of the PAX forms 0.0, 0.1 (in the header) and 1.0 (before the content).
    pub(super) fn pax_sparse(&mut self, sparse: &mut PaxSparse) -> Map {
        let size = sparse
            .size
            .ok_or("it is sparse, and its size is not given")?;
        let mut map = std::mem::take(&mut sparse.map);
        match (sparse.major, sparse.minor) {
            (None | Some(0), _) => {}
            (Some(1), Some(0)) if map.is_empty() => map = self.map_before_content()?,
            _ => return Err("its form of sparseness is not known".into()),
        }
        if !map.len().is_multiple_of(2) {
            return Err("its map has a piece without length".into());
        }
        let pieces = map.chunks_exact(2).filter_map(|pair| match pair {
            [offset, length] => Some(Piece {
                offset: *offset,
                length: *length,
            }),
            _ => None,
        });
        Ok((size, pieces.collect()))
    }

    /// Lines of decimal numbers, the first one their count of pairs, up to the end of a block.
    fn map_before_content(&mut self) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK_BYTES {
                return Err("its map is longer than its content".into());
            }
            let mut block = [0; BLOCK];
            self.read(&mut block).map_err(|e| e.to_string())?;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
                    break;
                }
                if byte != b'\n' {
                    if line.len() >= 20 {
                        return Err("its map holds no number".into());
                    }
                    line.push(byte);
                    continue;
                }
                let value = decimal(&line).ok_or("its map holds no number")?;
                line.clear();
                if wanted.is_some() {
                    numbers.push(value);
                } else {
                    let pieces = usize::try_from(value).unwrap_or(usize::MAX);
                    if pieces > limits::SPARSE_PIECES {
                        return Err("it has too many pieces".into());
                    }
                    wanted = Some(pieces * 2);
                }
            }
        }
        Ok(numbers)
    }
}

/// Pieces must ascend, not overlap, lie within the file, and be all that is stored.
pub(super) fn check(pieces: &[Piece], stored: u64, size: u64) -> Result<(), String> {
    let mut end = 0;
    let mut sum: u64 = 0;
    for piece in pieces {
        let after = piece.offset.checked_add(piece.length);
        match after {
            Some(after) if piece.offset >= end && after <= size => end = after,
            _ => return Err("its map overlaps, runs backwards or leaves the file".into()),
        }
        sum = sum.saturating_add(piece.length);
    }
    if sum != stored {
        return Err("its map and its content differ in length".into());
    }
    Ok(())
}
