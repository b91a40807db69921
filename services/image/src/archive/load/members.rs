//! The members of an image archive: each file staged and hashed, links as names. May not: write a member
//! under its name.

use std::collections::BTreeMap;
use std::io::{self, Read};

use regatta_model::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::compression::decoder;
use crate::error::{Error, Result, shown};
use crate::limits;
use crate::store::{Blob, Staged, Store, local_name};
use crate::tarfile::{Entry, Kind, TarReader};

/// Longest chain of links between members.
const LINK_DEPTH: usize = 8;

/// What an archive holds.
#[derive(Default)]
pub(super) struct Members {
    pub(super) files: BTreeMap<String, Staged>,
    pub(super) links: BTreeMap<String, String>,
}

impl Store {
    /// Stages every file of an archive.
    pub(super) fn members(&self, reader: impl Read) -> Result<Members> {
        let bytes = self.limits().bytes;
        let (_, content) = decoder(reader)?;
        let mut tar = TarReader::new(content);
        let mut members = Members::default();
        let (mut count, mut sum) = (0, 0_u64);
        while let Some(entry) = tar.next()? {
            count += 1;
            if count > limits::ARCHIVE_MEMBERS {
                let what = "the number of members of the image archive";
                return Err(Error::limit(
                    what,
                    "archive_members",
                    limits::ARCHIVE_MEMBERS,
                ));
            }
            sum = sum.saturating_add(entry.size);
            if sum > bytes {
                return Err(Error::limit("the image archive", "unpack.bytes", bytes));
            }
            let name = member_name(&entry.path)?;
            let (linked, staged) = match entry.kind {
                Kind::File => (None, Some(self.stage_member(&mut tar, &entry)?)),
                Kind::Symlink | Kind::HardLink => (Some(link_target(&name, &entry)?), None),
                _ => continue,
            };
            if members.files.contains_key(&name) || members.links.contains_key(&name) {
                return Err(Error::hostile(
                    &entry.path,
                    "the archive holds two members of this name",
                ));
            }
            if let Some(target) = linked {
                members.links.insert(name, target);
            } else if let Some(staged) = staged {
                members.files.insert(name, staged);
            }
        }
        Ok(members)
    }

    fn stage_member<R: Read>(&self, tar: &mut TarReader<R>, entry: &Entry) -> Result<Staged> {
        if entry.pieces.is_some() {
            return Err(Error::hostile(
                &entry.path,
                "a member of an image archive cannot be sparse",
            ));
        }
        self.stage(Content { tar }, None)
    }
}

/// An image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(rename = "RepoTags")]
    pub(super) tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

impl Members {
    pub(super) fn file(&self, name: &str) -> Result<&Staged> {
        self.files.get(name).ok_or_else(|| missing(name))
    }

    pub(super) fn known(&self, name: &str, published: &BTreeMap<String, Blob>) -> Result<()> {
        if self.files.contains_key(name) || published.contains_key(name) {
            Ok(())
        } else {
            Err(missing(name))
        }
    }

    /// The member that a name leads to.
    pub(super) fn resolve(&self, name: &str) -> Result<String> {
        let mut name = member_name(name.as_bytes())?;
        for _ in 0..LINK_DEPTH {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Ok(name),
            }
        }
        Err(Error::hostile(
            name.as_bytes(),
            "it is a link to a link to a link, too many times",
        ))
    }

    pub(super) fn json(&self, name: &str) -> Result<Value> {
        serde_json::from_slice(&self.file(name)?.read()?)
            .map_err(|e| Error::malformed(format!("the archive's {name}"), e.to_string()))
    }

    pub(super) fn docker_images(&mut self) -> Result<Vec<DockerImage>> {
        serde_json::from_value(self.json("manifest.json")?)
            .map_err(|e| Error::malformed("the archive's manifest.json", e.to_string()))
    }

    /// Names by the digest of the configuration, from the `manifest.json` that newer `docker save`
    /// writes beside an OCI layout.
    pub(super) fn docker_names(&mut self) -> BTreeMap<Digest, Vec<String>> {
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for image in self.docker_images().unwrap_or_default() {
            if let Some(config) = self
                .resolve(&image.config)
                .ok()
                .and_then(|name| self.files.get(&name))
            {
                let tags = image.tags.unwrap_or_default();
                names
                    .entry(config.digest())
                    .or_default()
                    .extend(tags.iter().filter_map(|t| local_name(t).ok()));
            }
        }
        names
    }
}

/// The content of a tar entry as a reader.
struct Content<'a, R> {
    tar: &'a mut TarReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer).map_err(io::Error::other)
    }
}

/// A member's name without `.` and empty parts.
fn member_name(path: &[u8]) -> Result<String> {
    let text =
        std::str::from_utf8(path).map_err(|_| Error::hostile(path, "its name is no UTF-8"))?;
    if text.starts_with('/')
        || text.split('/').any(|part| part == "..")
        || text.len() > limits::PATH_BYTES
    {
        return Err(Error::hostile(
            path,
            "its name leads outside, or is too long",
        ));
    }
    let parts: Vec<_> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    Ok(parts.join("/"))
}

/// The member that a link means: hard links count from the root, symbolic ones from where they stand.
fn link_target(name: &str, entry: &Entry) -> Result<String> {
    let outside = || Error::hostile(&entry.path, "it is a link to a place outside the archive");
    if entry.kind == Kind::HardLink {
        return member_name(&entry.link).map_err(|_| outside());
    }
    let target = std::str::from_utf8(&entry.link).map_err(|_| outside())?;
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(outside)?),
            _ => parts.push(part),
        }
    }
    if target.starts_with('/') {
        return Err(outside());
    }
    Ok(parts.join("/"))
}

pub(super) fn missing(name: &str) -> Error {
    Error::malformed(
        "the image archive",
        format!("{:?} is missing", shown(name.as_bytes())),
    )
}
