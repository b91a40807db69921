//! Extended (PAX) headers: records of `LENGTH KEY=VALUE`. May not: apply a global header; those that
//! would change entries are refused.

use super::number::decimal;
use super::sparse::PaxSparse;
use super::wrong;
use crate::error::{Error, Result};
use crate::limits;

/// What one extended header says of the entry after it.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

impl Extended {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut extended = Self::default();
        records(bytes, |key, value| extended.set(key, value))?;
        Ok(extended)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let whole = || {
            decimal(value)
                .filter(|value| *value <= 1 << 60)
                .map(Some)
                .ok_or_else(|| wrong("a number in an extended header is none"))
        };
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = whole()?,
            b"uid" => self.uid = whole()?,
            b"gid" => self.gid = whole()?,
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    return self.xattr(name, value);
                }
                if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.set(name, value);
                }
                // Others (times of access, names of users, comments, ...) change nothing here.
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > limits::XATTR_BYTES {
            let most = u64::try_from(limits::XATTR_BYTES).unwrap_or(u64::MAX);
            return Err(Error::limit(
                "an extended attribute",
                "unpack.xattr_bytes",
                most,
            ));
        }
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(wrong(
                "the name of an extended attribute is empty, too long or holds a NUL",
            ));
        }
        self.xattrs.retain(|(have, _)| have != name);
        if self.xattrs.len() >= limits::XATTRS {
            let most = u64::try_from(limits::XATTRS).unwrap_or(u64::MAX);
            return Err(Error::limit(
                "extended attributes of one entry",
                "unpack.xattrs",
                most,
            ));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// A global header may comment, but not change the entries after it: programs disagree about that.
pub(super) fn check_global(bytes: &[u8]) -> Result<()> {
    records(bytes, |key, _| {
        let changes = [
            b"path".as_slice(),
            b"linkpath",
            b"size",
            b"uid",
            b"gid",
            b"mtime",
        ]
        .contains(&key)
            || key.starts_with(b"SCHILY.xattr.")
            || key.starts_with(b"GNU.sparse.");
        if changes {
            return Err(wrong(
                "a global extended header would change every entry after it",
            ));
        }
        Ok(())
    })
}

fn records(mut bytes: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let bad = || wrong("an extended header is malformed");
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .take(20)
            .position(|byte| *byte == b' ')
            .ok_or_else(bad)?;
        let length = bytes.get(..space).and_then(decimal).ok_or_else(bad)?;
        let length = usize::try_from(length).map_err(|_| bad())?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(bad)?;
        let key = record
            .get(..equals)
            .filter(|key| !key.is_empty())
            .ok_or_else(bad)?;
        each(key, record.get(equals + 1..).unwrap_or_default())?;
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// `-1.25` is 0.75 seconds after second -2.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let bad = || wrong("a time in an extended header is no number");
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut halves = digits.splitn(2, |byte| *byte == b'.');
    let seconds = halves.next().and_then(decimal).ok_or_else(bad)?;
    let seconds = i64::try_from(seconds).map_err(|_| bad())?;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let mut nanoseconds: u32 = 0;
    for at in 0..9 {
        let digit = fraction.get(at).map_or(0, |byte| byte - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"-3").unwrap(), (-3, 0));
        assert!(time(b"x").is_err() && time(b"").is_err() && time(b"1.x").is_err());
    }

    #[test]
    fn a_malformed_record_is_refused() {
        for wrong in [
            "5 a=b",
            "6 a=b\nx",
            "3 a\n",
            "x a=b\n",
            "99 a=b\n",
            "0 a=b\n",
            "5 =b\n",
            "6 a=b\n\n",
        ] {
            assert!(Extended::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        let right = Extended::parse(b"12 path=a=b\n").unwrap();
        assert_eq!(right.path.as_deref(), Some(b"a=b".as_slice()));
    }
}
