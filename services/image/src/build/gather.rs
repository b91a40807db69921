//! What a COPY copies: its sources found, globs included, and everything below them listed with a digest of
//! its content. May not: know where it goes.

use std::io::Read;

use globset::GlobBuilder;
use regatta_model::Digest;
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::ignore::Ignore;
use super::layer::Meta;
use super::place::{self, look, meta_of};
use crate::error::{Error, Result, shown};
use crate::merged::{Found, Merged};

/// Deepest directory that is copied.
const DEPTH_MOST: usize = 200;
/// Bytes read at once.
const CHUNK: usize = 128 << 10;

/// One source with all below it.
#[derive(Debug)]
pub(super) struct Source {
    /// The last part of its name, as written.
    pub(super) name: Vec<u8>,
    pub(super) is_directory: bool,
    /// Itself first, with an empty path.
    pub(super) items: Vec<Item>,
}

/// One file, directory or link.
#[derive(Debug)]
pub(super) struct Item {
    /// Below its source.
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    pub(super) meta: Meta,
}

/// What an item is.
#[derive(Debug)]
pub(super) enum What {
    Directory,
    File {
        size: u64,
        digest: [u8; 32],
        from: From,
    },
    Symlink(Vec<u8>),
    Fifo,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub(super) enum From {
    /// At this path of the tree.
    Tree(Vec<u8>),
    /// In the Containerfile.
    Text(Vec<u8>),
}

/// Where sources are looked for.
pub(super) struct Tree<'a> {
    pub(super) merged: &'a Merged,
    /// What is left out; none: an image, whose owners are kept too.
    pub(super) ignore: Option<&'a Ignore>,
    /// Most entries of one COPY.
    pub(super) entries_most: u64,
}

impl Tree<'_> {
    /// The paths that a source text means. An error is a sentence.
    pub(super) fn find(&self, text: &str) -> Result<Vec<Vec<u8>>, String> {
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        let mut is_pattern = false;
        let clean = place::join("/", text);
        for part in clean.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            if part.contains(['*', '?', '[']) {
                is_pattern = true;
                let glob = GlobBuilder::new(part)
                    .literal_separator(true)
                    .build()
                    .map_err(|e| format!("{part:?} cannot be used as a pattern: {}", e.kind()))?
                    .compile_matcher();
                for dir in &found {
                    let Some(there) = look(self.merged, dir, true).map_err(|e| e.to_string())?
                    else {
                        continue;
                    };
                    let names = there.names().map_err(|e| e.to_string())?;
                    for name in names {
                        let matches =
                            std::str::from_utf8(&name).is_ok_and(|name| glob.is_match(name));
                        if matches {
                            next.push(below(dir, &name));
                        }
                    }
                }
            } else {
                let part = part.replace('\\', "");
                next.extend(found.iter().map(|dir| below(dir, part.as_bytes())));
            }
            found = next;
        }
        if is_pattern {
            found.retain(|path| {
                !self.is_ignored(path) && matches!(look(self.merged, path, false), Ok(Some(_)))
            });
        }
        Ok(found)
    }

    fn is_ignored(&self, path: &[u8]) -> bool {
        self.ignore
            .is_some_and(|ignore| ignore.is_ignored(&String::from_utf8_lossy(path)))
    }

    /// Lists a source; none: nothing is there, or it is left out.
    pub(super) fn gather(&self, path: &[u8]) -> Result<Option<Source>> {
        // A link is followed to what it means within the tree; one that leads out is copied as it is.
        let place = place::resolve(self.merged, path).map_err(Error::Refused)?;
        let Some(found) = look(self.merged, &place.path, false)? else {
            return Ok(None);
        };
        let name = path
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
            .to_vec();
        let is_directory = found.kind() == FileType::Directory;
        let mut items = Vec::new();
        self.add(&mut items, &place.path, b"", &found, 0)?;
        Ok((!items.is_empty()).then_some(Source {
            name,
            is_directory,
            items,
        }))
    }

    fn add(
        &self,
        items: &mut Vec<Item>,
        path: &[u8],
        below_source: &[u8],
        found: &Found,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH_MOST {
            let most = u64::try_from(DEPTH_MOST).unwrap_or(u64::MAX);
            return Err(Error::limit(
                format!("directory {:?}", shown(path)),
                "unpack.depth",
                most,
            ));
        }
        if u64::try_from(items.len()).unwrap_or(u64::MAX) >= self.entries_most {
            return Err(Error::limit(
                "what COPY copies",
                "unpack.entries",
                self.entries_most,
            ));
        }
        let ignored = !path.is_empty() && self.is_ignored(path);
        if found.kind() == FileType::Directory {
            if ignored && self.ignore.is_none_or(|ignore| !ignore.has_exceptions()) {
                return Ok(());
            }
            let here = items.len();
            let meta = self.meta(found, path)?;
            items.push(Item {
                path: below_source.to_vec(),
                what: What::Directory,
                meta,
            });
            found.each(|name, child| {
                self.add(
                    items,
                    &below(path, name),
                    &below(below_source, name),
                    &child,
                    depth + 1,
                )
            })?;
            // Only what is wanted below it keeps a directory that is left out.
            if ignored && items.len() == here + 1 {
                items.pop();
            }
            return Ok(());
        }
        if ignored {
            return Ok(());
        }
        let what = match found.kind() {
            FileType::RegularFile => {
                let (digest, size) = hash(&mut found.open_file()?, path)?;
                What::File {
                    size,
                    digest,
                    from: From::Tree(path.to_vec()),
                }
            }
            FileType::Symlink => What::Symlink(found.link_target()?),
            FileType::Fifo => What::Fifo,
            kind => {
                tracing::warn!(path = %shown(path), ?kind, "COPY leaves it out");
                return Ok(());
            }
        };
        let meta = self.meta(found, path)?;
        items.push(Item {
            path: below_source.to_vec(),
            what,
            meta,
        });
        Ok(())
    }

    fn meta(&self, found: &Found, path: &[u8]) -> Result<Meta> {
        let mut meta = meta_of(found, path)?;
        if self.ignore.is_some() {
            // Who owns the files of the context is this host's matter.
            (meta.uid, meta.gid) = (0, 0);
            meta.xattrs
                .retain(|(name, _)| !name.starts_with(b"system."));
        }
        Ok(meta)
    }
}

/// The bytes of a heredoc as a source.
pub(super) fn text(name: &str, body: String) -> Source {
    let bytes = body.into_bytes();
    let digest = *Digest::of(&bytes).as_bytes();
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let meta = Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: Vec::new(),
    };
    let what = What::File {
        size,
        digest,
        from: From::Text(bytes),
    };
    let items = vec![Item {
        path: Vec::new(),
        what,
        meta,
    }];
    Source {
        name: name.as_bytes().to_vec(),
        is_directory: false,
        items,
    }
}

/// A digest of all that copying the sources depends on: names, kinds, modes, owners, attributes, content;
/// no times.
pub(super) fn digest(sources: &[Source]) -> Digest {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(bytes);
    };
    for source in sources {
        field(&source.name);
        field(
            &u64::try_from(source.items.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        for Item { path, what, meta } in &source.items {
            field(path);
            match what {
                What::Directory => field(b"directory"),
                What::File { digest, .. } => {
                    field(b"file");
                    field(digest);
                }
                What::Symlink(target) => {
                    field(b"link");
                    field(target);
                }
                What::Fifo => field(b"fifo"),
            }
            for number in [
                meta.mode,
                meta.uid,
                meta.gid,
                u32::try_from(meta.xattrs.len()).unwrap_or(0),
            ] {
                field(&number.to_le_bytes());
            }
            for (name, value) in &meta.xattrs {
                field(name);
                field(value);
            }
        }
    }
    Digest::from_bytes(hasher.finalize().into())
}

fn hash(file: &mut std::fs::File, path: &[u8]) -> Result<([u8; 32], u64)> {
    let mut hashing = Hashing::new(file);
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = hashing
            .read(&mut buffer)
            .map_err(|e| Error::io(format!("read {:?}", shown(path)), e))?;
        if got == 0 {
            return Ok(hashing.finish());
        }
    }
}

/// Reads, and takes the digest and length of what passes.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    count: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
        }
    }

    pub(super) fn finish(self) -> ([u8; 32], u64) {
        (self.hasher.finalize().into(), self.count)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..got).unwrap_or_default());
        self.count += u64::try_from(got).unwrap_or(0);
        Ok(got)
    }
}

pub(super) fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    match (path, name) {
        (b"", name) => name.to_vec(),
        (path, b"") => path.to_vec(),
        (path, name) => [path, b"/", name].concat(),
    }
}
