//! Names of archive entries: taken apart, bounded, and refused where they could mean a place outside.

use crate::error::{Error, Result};
use crate::limits::{self, UnpackLimits};

/// Prefix of the names by which a layer removes things of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of aufs's own files, which stand in some old layers and mean nothing.
const AUFS: &[u8] = b".wh..wh.";
/// The name by which a layer hides all of a directory that is below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name says is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Make this.
    Make(Vec<Vec<u8>>),
    /// Hide this in the layers below.
    Whiteout(Vec<Vec<u8>>),
    /// Hide all that is in this directory below.
    Opaque(Vec<Vec<u8>>),
    /// Nothing.
    Skip,
}

/// Components of a name, `.` and empty ones left out.
pub(crate) fn components(path: &[u8], limits: &UnpackLimits) -> Result<Vec<Vec<u8>>> {
    if path.starts_with(b"/") {
        return Err(Error::hostile(path, "its name is absolute"));
    }
    if path.len() > limits::PATH_BYTES {
        return Err(Error::hostile(
            path,
            format!("its name is longer than {} bytes", limits::PATH_BYTES),
        ));
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Error::hostile(path, "its name contains \"..\"")),
            _ if part.len() > limits::NAME_BYTES => {
                let why = format!(
                    "a part of its name is longer than {} bytes",
                    limits::NAME_BYTES
                );
                return Err(Error::hostile(path, why));
            }
            _ => parts.push(part.to_vec()),
        }
    }
    if u64::try_from(parts.len()).unwrap_or(u64::MAX) > limits.depth {
        return Err(Error::limit(
            "the depth of a path in the archive",
            "unpack.depth",
            limits.depth,
        ));
    }
    Ok(parts)
}

/// What an entry's name means in a layer.
pub(super) fn meaning(path: &[u8], limits: &UnpackLimits) -> Result<Meaning> {
    let mut parts = components(path, limits)?;
    let Some(last) = parts.pop() else {
        return Ok(Meaning::Make(parts));
    };
    if parts.iter().any(|part| part.starts_with(AUFS)) {
        return Ok(Meaning::Skip);
    }
    if parts.iter().any(|part| part.starts_with(WHITEOUT)) {
        return Err(Error::hostile(path, "it is below a whiteout"));
    }
    if last == OPAQUE {
        return Ok(Meaning::Opaque(parts));
    }
    if last.starts_with(AUFS) && last.len() > AUFS.len() {
        return Ok(Meaning::Skip);
    }
    let Some(hidden) = last.strip_prefix(WHITEOUT) else {
        parts.push(last);
        return Ok(Meaning::Make(parts));
    };
    if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
        return Err(Error::hostile(
            path,
            "it is a whiteout of no name that a file can have",
        ));
    }
    parts.push(hidden.to_vec());
    Ok(Meaning::Whiteout(parts))
}

/// Whether a file of this name cannot be put in a layer.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(WHITEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_oci_layer_format_says() {
        let limits = UnpackLimits {
            depth: 4,
            ..UnpackLimits::default()
        };
        let meaning = |name: &str| meaning(name.as_bytes(), &limits);
        let parts = |name: &str| {
            name.split('/')
                .map(|part| part.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(meaning("./a//b/").unwrap(), Meaning::Make(parts("a/b")));
        assert_eq!(meaning("./").unwrap(), Meaning::Make(vec![]));
        assert_eq!(meaning("a/.wh.b").unwrap(), Meaning::Whiteout(parts("a/b")));
        assert_eq!(
            meaning("a/.wh..b").unwrap(),
            Meaning::Whiteout(parts("a/.b"))
        );
        assert_eq!(
            meaning("a/.wh..wh..opq").unwrap(),
            Meaning::Opaque(parts("a"))
        );
        assert_eq!(meaning(".wh..wh.plnk/1.2").unwrap(), Meaning::Skip);
        assert_eq!(meaning(".wh..wh.aufs").unwrap(), Meaning::Skip);
        for wrong in [
            "/a",
            "../a",
            "a/../b",
            "a/..",
            ".wh.",
            ".wh..",
            ".wh...",
            "a/.wh.b/c",
            "1/2/3/4/5",
            ".wh..wh.",
        ] {
            assert!(meaning(wrong).is_err(), "{wrong}");
        }
        assert!(meaning(&"a".repeat(256)).is_err());
        assert!(meaning(&"a/".repeat(3000)).is_err());
    }
}
