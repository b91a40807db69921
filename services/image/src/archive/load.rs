//! Loading archives of images: `docker save`'s and OCI layouts, one or more images in each. Every member
//! is staged and hashed as it comes; only what an image needs is kept, and only when all of it was
//! verified. May not: unpack a member under a name of the archive.

use std::collections::BTreeMap;
use std::io::{self, Read};

use regatta_model::Digest;
use serde_json::Value;

use crate::compression::{Compression, decoder};
use crate::error::{Error, Result};
use crate::limits;
use crate::progress::{Progress, Task};
use crate::store::{Blob, Manifest, REF_NAME, Staged, Store, local_name};

mod members;

use members::{DockerImage, Members, missing};

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
