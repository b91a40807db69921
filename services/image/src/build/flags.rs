//! The `--name=value` flags that may stand before an instruction's words, and what `--mount` says.
//! May not: make directories or mounts.

use super::diagnostic::{Diagnostic, nearest};
use super::lines;
use super::parse::{Parser, Word};

/// One flag.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Word,
    /// All of it, for messages.
    pub(super) whole: Word,
}

/// `--mount=type=cache,...` of a RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where the command sees it; variables are replaced later.
    pub(crate) target: Word,
    /// The cache's name; by default its target.
    pub(crate) id: Option<Word>,
    /// Whether one command at a time uses it.
    pub(crate) locked: bool,
    /// Whether the command may write there.
    pub(crate) writable: bool,
    /// Owner and mode of a cache that is made new.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Parser<'_> {
    /// The flags at the beginning, each of `known`, and the first byte behind them.
    pub(super) fn flags(&self, known: &[&str]) -> Result<(Vec<Flag>, usize), Box<Diagnostic>> {
        let rest = &self.logical.rest;
        let mut flags = Vec::new();
        for (offset, text) in lines::shell_words(rest, self.source.escape) {
            let whole = Word {
                raw: text.to_owned(),
                offset,
            };
            let Some(flag) = text.strip_prefix("--") else {
                return Ok((flags, offset));
            };
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            if !known.contains(&name) {
                let help = nearest(name, known).map_or_else(
                    || format!("it takes --{}", known.join(", --")),
                    |near| format!("did you mean --{near}?"),
                );
                let keyword = self.logical.keyword.to_ascii_uppercase();
                return Err(self.at(
                    &whole,
                    format!("{keyword} has no flag --{name}"),
                    Some(&help),
                ));
            }
            let value_offset = offset + text.len() - value.len();
            let value = Word {
                raw: value.to_owned(),
                offset: value_offset,
            };
            if value.raw.is_empty() && name != "link" {
                let help = format!("--{name}=VALUE");
                return Err(self.at(&whole, format!("--{name} needs a value"), Some(&help)));
            }
            flags.push(Flag {
                name: name.to_owned(),
                value,
                whole,
            });
        }
        Ok((flags, rest.len()))
    }
}

/// Reads the value of a `--mount`.
pub(super) fn mount(parser: &Parser<'_>, flag: &Flag) -> Result<Mount, Box<Diagnostic>> {
    let mut kind = "bind".to_owned();
    let (mut target, mut id) = (None, None);
    let (mut locked, mut writable) = (false, true);
    let (mut uid, mut gid, mut mode) = (0, 0, 0o755);
    let mut offset = flag.value.offset;
    let mut unknown = None;
    for part in flag.value.raw.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let whole = Word {
            raw: part.to_owned(),
            offset,
        };
        let word = Word {
            raw: value.to_owned(),
            offset: offset + part.len() - value.len(),
        };
        offset += part.len() + 1;
        let number = |radix| {
            u32::from_str_radix(value, radix)
                .map_err(|_| parser.at(&whole, format!("{value:?} is not a number here"), None))
        };
        match key {
            "type" => value.clone_into(&mut kind),
            "target" | "dst" | "destination" if !value.is_empty() => target = Some(word),
            "id" if !value.is_empty() => id = Some(word),
            "sharing" => match value {
                "shared" => locked = false,
                "locked" => locked = true,
                _ => {
                    let help = "sharing=shared or sharing=locked";
                    let message = format!("sharing={value} is not supported");
                    return Err(parser.at(&whole, message, Some(help)));
                }
            },
            "ro" | "readonly" => writable = value == "false",
            "rw" | "readwrite" => writable = value != "false",
            "uid" => uid = number(10)?,
            "gid" => gid = number(10)?,
            "mode" => mode = number(8)? & 0o7777,
            _ => unknown = unknown.or(Some((whole, key.to_owned()))),
        }
    }
    match kind.as_str() {
        "cache" => {}
        "bind" | "tmpfs" | "secret" | "ssh" => {
            let help = match kind.as_str() {
                "bind" => "COPY what the command needs, in a stage of its own if it must not stay",
                "tmpfs" => "use /tmp and remove what must not stay",
                _ => "--mount=type=cache is",
            };
            let message = format!("--mount=type={kind} is not supported yet");
            return Err(parser.at(&flag.whole, message, Some(help)));
        }
        _ => {
            let message = format!("there is no mount of type {kind:?}");
            return Err(parser.at(
                &flag.whole,
                message,
                Some("--mount=type=cache,target=/path"),
            ));
        }
    }
    if let Some((whole, key)) = unknown {
        let known = [
            "type", "target", "id", "sharing", "ro", "rw", "uid", "gid", "mode",
        ];
        let help = nearest(&key, &known).map_or_else(
            || format!("a cache takes {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        return Err(parser.at(&whole, format!("a cache mount has no {key:?}"), Some(&help)));
    }
    let Some(target) = target else {
        let help = "--mount=type=cache,target=/path";
        return Err(parser.at(&flag.whole, "the cache mount lacks its target", Some(help)));
    };
    Ok(Mount {
        target,
        id,
        locked,
        writable,
        uid,
        gid,
        mode,
    })
}
