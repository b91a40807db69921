//! Loading archives of images: `docker save`'s and OCI layouts, one or more images in each. Every member
//! is staged and hashed as it comes; only what an image needs is kept, and only when all of it was
//! verified. May not: unpack a member under a name of the archive.

use std::collections::BTreeMap;
use std::io::{self, Read};

use regatta_model::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::compression::{Compression, decoder};
use crate::error::{Error, Result, shown};
use crate::limits;
use crate::progress::{Progress, Task};
use crate::store::{Blob, Manifest, REF_NAME, Staged, Store, local_name};
use crate::tarfile::{Entry, Kind, TarReader};

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Of its manifest.
    pub digest: Digest,
    /// The names it got: the archive's, or `loaded:` and the digest's beginning where that has none.
    pub names: Vec<String>,
}

/// The name that Docker's image store gives, in full.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Longest chain of links between members.
const LINK_DEPTH: usize = 8;

/// What an archive holds.
#[derive(Default)]
struct Members {
    files: BTreeMap<String, Staged>,
    links: BTreeMap<String, String>,
}

/// Counts for a progress bar.
pub(super) struct Told<'a, R> {
    pub(super) reader: R,
    pub(super) task: &'a dyn Task,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.task.advance(u64::try_from(got).unwrap_or(0));
        Ok(got)
    }
}

impl Store {
    /// Loads every image of an archive, of any compression. Nothing is kept of an archive of which
    /// anything is refused.
    pub fn load(&self, reader: impl Read, progress: &dyn Progress) -> Result<Vec<Loaded>> {
        let work = self.work()?;
        let task = progress.begin("load", None);
        let members = self.members(Told {
            reader,
            task: &*task,
        })?;
        let loaded = if members.files.contains_key("index.json") {
            self.load_oci(members)
        } else if members.files.contains_key("manifest.json") {
            self.load_docker(members)
        } else {
            let why = "it holds neither index.json (OCI) nor manifest.json (Docker); \
                       a root filesystem is taken in by `regatta image import`";
            Err(Error::malformed("the image archive", why))
        }?;
        let images: Vec<_> = loaded
            .iter()
            .map(|image| (image.digest, image.names.clone()))
            .collect();
        self.admit_all(work, &images)?;
        task.finish();
        Ok(loaded)
    }

    /// Stages every file of an archive.
    fn members(&self, reader: impl Read) -> Result<Members> {
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

    /// An OCI layout: manifests and blobs keep their bytes, and so their digests.
    fn load_oci(&self, mut members: Members) -> Result<Vec<Loaded>> {
        let index = members.json("index.json")?;
        let entries = index.get("manifests").and_then(Value::as_array);
        let entries = entries
            .filter(|entries| !entries.is_empty())
            .ok_or_else(|| {
                Error::malformed("the image archive", "its index.json tells of no image")
            })?;
        let docker_names = members.docker_names();
        let mut blobs = BTreeMap::new();
        for (name, staged) in std::mem::take(&mut members.files) {
            let Some(hex) = name.strip_prefix("blobs/sha256/") else {
                continue;
            };
            if hex != staged.digest().hex() {
                return Err(Error::Mismatch {
                    what: format!("blob {name:?} of the archive"),
                    expected: format!("sha256:{hex}"),
                    found: staged.digest().to_string(),
                });
            }
            blobs.insert(staged.digest(), staged);
        }
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut needed = Vec::new();
        for entry in entries {
            let entry_blob: Blob = serde_json::from_value(entry.clone())
                .map_err(|e| Error::malformed("the archive's index.json", e.to_string()))?;
            needed_by(&blobs, &entry_blob, &mut needed, 0)?;
            let note = |key: &str| {
                let text = entry.get("annotations")?.get(key)?.as_str()?;
                local_name(text).ok()
            };
            let config = blobs.get(&entry_blob.digest).and_then(|staged| {
                Manifest::parse(&staged.read().ok()?)
                    .ok()
                    .map(|manifest| manifest.config.digest)
            });
            let mut names: Vec<String> = note(CONTAINERD_NAME).into_iter().collect();
            names.extend(
                config
                    .and_then(|config| docker_names.get(&config))
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            if names.is_empty() {
                names.extend(note(REF_NAME));
            }
            match loaded
                .iter_mut()
                .find(|image| image.digest == entry_blob.digest)
            {
                Some(image) => image.names.extend(names),
                None => loaded.push(Loaded {
                    digest: entry_blob.digest,
                    names,
                }),
            }
        }
        for digest in needed {
            if let Some(staged) = blobs.remove(&digest) {
                self.publish(staged)?;
            }
        }
        for image in &mut loaded {
            name_somehow(image);
        }
        Ok(loaded)
    }

    /// `docker save`'s own form: configurations keep their bytes; the manifests are made here.
    fn load_docker(&self, mut members: Members) -> Result<Vec<Loaded>> {
        let images: Vec<DockerImage> = members.docker_images()?;
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut published: BTreeMap<String, Blob> = BTreeMap::new();
        let mut ready = Vec::new();
        for image in images {
            let config_name = members.resolve(&image.config)?;
            let config = members.file(&config_name)?;
            let stem = config_name
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".json");
            if let Ok(claimed) = format!("sha256:{stem}").parse::<Digest>()
                && claimed != config.digest()
            {
                return Err(Error::Mismatch {
                    what: "the image's configuration".into(),
                    expected: claimed.to_string(),
                    found: config.digest().to_string(),
                });
            }
            let config = config.read()?;
            let mut layers = Vec::new();
            for layer in &image.layers {
                let name = members.resolve(layer)?;
                members.known(&name, &published)?;
                layers.push(name);
            }
            ready.push((config, layers, image.tags.unwrap_or_default()));
            if ready.len() > limits::LAYERS {
                return Err(Error::malformed(
                    "the image archive",
                    "it holds too many images",
                ));
            }
        }
        for (config, layers, tags) in ready {
            let mut blobs = Vec::new();
            for name in layers {
                if let Some(staged) = members.files.remove(&name) {
                    published.insert(name.clone(), self.publish_layer(staged)?);
                }
                blobs.extend(published.get(&name).cloned());
            }
            let digest = self.put_image(&config, &blobs)?;
            let mut image = Loaded {
                digest,
                names: Vec::new(),
            };
            for tag in tags {
                image.names.push(local_name(&tag)?);
            }
            name_somehow(&mut image);
            loaded.push(image);
        }
        Ok(loaded)
    }

    fn publish_layer(&self, staged: Staged) -> Result<Blob> {
        let (compression, content) = decoder(staged.open()?)?;
        let (staged, media_type) = match compression.layer_media_type() {
            Some(media_type) => (staged, media_type),
            None => (
                self.stage(content, None)?,
                Compression::None.layer_media_type().unwrap_or_default(),
            ),
        };
        let (digest, size) = self.publish(staged)?;
        Ok(Blob {
            media_type: media_type.into(),
            digest,
            size,
        })
    }
}

/// An image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Members {
    fn file(&self, name: &str) -> Result<&Staged> {
        self.files.get(name).ok_or_else(|| missing(name))
    }

    fn known(&self, name: &str, published: &BTreeMap<String, Blob>) -> Result<()> {
        if self.files.contains_key(name) || published.contains_key(name) {
            Ok(())
        } else {
            Err(missing(name))
        }
    }

    /// The member that a name leads to.
    fn resolve(&self, name: &str) -> Result<String> {
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

    fn json(&self, name: &str) -> Result<Value> {
        serde_json::from_slice(&self.file(name)?.read()?)
            .map_err(|e| Error::malformed(format!("the archive's {name}"), e.to_string()))
    }

    fn docker_images(&mut self) -> Result<Vec<DockerImage>> {
        serde_json::from_value(self.json("manifest.json")?)
            .map_err(|e| Error::malformed("the archive's manifest.json", e.to_string()))
    }

    /// Names by the digest of the configuration, from the `manifest.json` that newer `docker save`
    /// writes beside an OCI layout.
    fn docker_names(&mut self) -> BTreeMap<Digest, Vec<String>> {
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

/// All blobs that an entry needs, as far as the archive has them: an index may tell of images for other
/// machines that were left out.
fn needed_by(
    blobs: &BTreeMap<Digest, Staged>,
    entry: &Blob,
    needed: &mut Vec<Digest>,
    depth: usize,
) -> Result<()> {
    let Some(staged) = blobs.get(&entry.digest) else {
        if depth > 0 {
            return Ok(());
        }
        return Err(missing(&format!("blobs/sha256/{}", entry.digest.hex())));
    };
    if staged.size() != entry.size {
        return Err(Error::Mismatch {
            what: format!("the size of manifest {}", entry.digest),
            expected: entry.size.to_string(),
            found: staged.size().to_string(),
        });
    }
    needed.push(entry.digest);
    let bytes = staged.read()?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::malformed(format!("manifest {}", entry.digest), e.to_string()))?;
    if let Some(inner) = value.get("manifests").and_then(Value::as_array) {
        for inner in inner.iter().filter(|_| depth < 3) {
            let inner: Blob = serde_json::from_value(inner.clone())
                .map_err(|e| Error::malformed(format!("index {}", entry.digest), e.to_string()))?;
            needed_by(blobs, &inner, needed, depth + 1)?;
        }
        return Ok(());
    }
    let manifest = Manifest::parse(&bytes)?;
    needed.push(manifest.config.digest);
    needed.extend(manifest.layers.iter().map(|layer| layer.digest));
    Ok(())
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

fn name_somehow(image: &mut Loaded) {
    image.names.sort();
    image.names.dedup();
    if image.names.is_empty() {
        let hex = image.digest.hex();
        image
            .names
            .push(format!("loaded:{}", hex.get(..12).unwrap_or(&hex)));
    }
}

fn missing(name: &str) -> Error {
    Error::malformed(
        "the image archive",
        format!("{:?} is missing", shown(name.as_bytes())),
    )
}
