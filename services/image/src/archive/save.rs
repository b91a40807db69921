//! Saving images to one file, as an OCI archive or as `docker save` does. Equal images give equal files.
//! May not: leave half a file behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use regatta_model::Digest;
use serde_json::{Value, json};

use crate::compression::{Compression, Hashing, decoder};
use crate::error::{Error, Result};
use crate::progress::{Progress, Task};
use crate::store::{
    Blob, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, REF_NAME, Store, local_name,
};

/// The forms of image archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout in a tar: digests are kept.
    Oci,
    /// What `docker load` and older programs take: layers are uncompressed, configurations kept.
    Docker,
}

impl Store {
    /// Saves images, by name, into a file; what was there is replaced when all is written.
    pub fn save(
        &self,
        names: &[String],
        format: Format,
        file: &Path,
        progress: &dyn Progress,
    ) -> Result<()> {
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let fail = |e: io::Error| Error::at("write", file, e);
        let new = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(parent)
            .map_err(fail)?;
        let mut out = io::BufWriter::new(new.as_file());
        self.save_to(names, format, &mut out, progress)?;
        out.flush().map_err(fail)?;
        drop(out);
        new.as_file().sync_all().map_err(fail)?;
        new.persist(file).map_err(|e| fail(e.error))?;
        Ok(())
    }

    /// Saves images, by name, into a stream.
    pub fn save_to(
        &self,
        names: &[String],
        format: Format,
        out: impl Write,
        progress: &dyn Progress,
    ) -> Result<()> {
        let _work = self.work()?;
        let mut images = Vec::new();
        for name in names {
            let manifest = self.manifest(&self.require(name)?)?;
            images.push((local_name(name).ok(), manifest));
        }
        if images.is_empty() {
            return Err(Error::Refused("no image to save was named".into()));
        }
        let task = progress.begin("save", None);
        let mut tar = Tar {
            builder: tar::Builder::new(out),
            task: &*task,
        };
        match format {
            Format::Oci => self.save_oci(&images, &mut tar),
            Format::Docker => self.save_docker(&images, &mut tar),
        }?;
        tar.builder
            .finish()
            .map_err(|e| Error::io("write the image archive", e))?;
        task.finish();
        Ok(())
    }

    fn save_oci<W: Write>(
        &self,
        images: &[(Option<String>, Manifest)],
        tar: &mut Tar<'_, W>,
    ) -> Result<()> {
        let mut entries = Vec::new();
        let mut small: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        for (name, manifest) in images {
            let bytes = self.read_blob(&manifest.digest)?;
            let bytes = if manifest.media_type == OCI_MANIFEST {
                bytes
            } else {
                as_oci(&bytes)?
            };
            let digest = Digest::of(&bytes);
            let annotations = name.as_ref().map(|name| json!({REF_NAME: name}));
            let mut entry = serde_json::Map::new();
            entry.insert("mediaType".into(), json!(OCI_MANIFEST));
            entry.insert("digest".into(), json!(digest.to_string()));
            entry.insert("size".into(), json!(bytes.len()));
            entry.extend(annotations.map(|annotations| ("annotations".to_owned(), annotations)));
            entries.push(entry);
            small.insert(digest, bytes);
            blobs.insert(manifest.config.digest, manifest.config.size);
            blobs.extend(
                manifest
                    .layers
                    .iter()
                    .map(|layer| (layer.digest, layer.size)),
            );
        }
        tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        tar.bytes("index.json", index.to_string().as_bytes())?;
        tar.directory("blobs/")?;
        tar.directory("blobs/sha256/")?;
        for (digest, bytes) in small {
            tar.bytes(&format!("blobs/sha256/{}", digest.hex()), &bytes)?;
        }
        for (digest, size) in blobs {
            self.save_blob(
                &digest,
                size,
                &format!("blobs/sha256/{}", digest.hex()),
                tar,
            )?;
        }
        Ok(())
    }

    fn save_docker<W: Write>(
        &self,
        images: &[(Option<String>, Manifest)],
        tar: &mut Tar<'_, W>,
    ) -> Result<()> {
        let mut entries: Vec<(Digest, Value)> = Vec::new();
        let mut layers: BTreeMap<Digest, Blob> = BTreeMap::new();
        let mut configs: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        for (name, manifest) in images {
            let config = manifest.config.digest;
            let diff_ids = self.diff_ids(manifest)?;
            configs.insert(config, self.read_blob(&config)?);
            layers.extend(
                diff_ids
                    .iter()
                    .copied()
                    .zip(manifest.layers.iter().cloned()),
            );
            if let Some((_, entry)) = entries.iter_mut().find(|(have, _)| *have == config) {
                if let Some(tags) = entry.get_mut("RepoTags").and_then(Value::as_array_mut) {
                    tags.extend(name.iter().map(|name| json!(name)));
                }
                continue;
            }
            let entry = json!({
                "Config": format!("{}.json", config.hex()),
                "RepoTags": name.iter().collect::<Vec<_>>(),
                "Layers": diff_ids.iter().map(|id| format!("{}.tar", id.hex())).collect::<Vec<_>>(),
            });
            entries.push((config, entry));
        }
        for (diff_id, blob) in layers {
            let name = format!("{}.tar", diff_id.hex());
            if blob.digest == diff_id {
                self.save_blob(&blob.digest, blob.size, &name, tar)?;
                continue;
            }
            // A header needs the size first, so the layer is decompressed aside.
            let (_, content) = decoder(self.open_blob(&blob.digest)?)?;
            let staged = self.stage(content, Some(diff_id))?;
            tar.stream(&name, staged.size(), staged.open()?)?;
        }
        for (digest, bytes) in configs {
            tar.bytes(&format!("{}.json", digest.hex()), &bytes)?;
        }
        let entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
        tar.bytes("manifest.json", json!(entries).to_string().as_bytes())
    }

    /// A blob, verified once more as it goes out.
    fn save_blob<W: Write>(
        &self,
        digest: &Digest,
        size: u64,
        name: &str,
        tar: &mut Tar<'_, W>,
    ) -> Result<()> {
        let mismatch = |expected: String, found: String| Error::Mismatch {
            what: format!("blob {digest} of the local store"),
            expected,
            found,
        };
        let file: File = self.open_blob(digest)?;
        let length = self.blob_size(digest)?;
        if length != size {
            return Err(mismatch(format!("{size} bytes"), format!("{length} bytes")));
        }
        let mut hashing = Hashing::new(file);
        tar.stream(name, size, &mut hashing)?;
        let (found, _) = hashing.finish(|_| Ok(()))?;
        if found != *digest {
            return Err(mismatch(digest.to_string(), found.to_string()));
        }
        Ok(())
    }
}

/// Docker's manifest in OCI's words: other media types, and so another digest.
fn as_oci(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::malformed("a manifest of the local store", e.to_string()))?;
    set(&mut value, "mediaType", OCI_MANIFEST);
    if let Some(config) = value.get_mut("config") {
        set(config, "mediaType", OCI_CONFIG);
    }
    for layer in value
        .get_mut("layers")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let docker = layer
            .get("mediaType")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let compression = match docker {
            _ if docker.ends_with("gzip") => Compression::Gzip,
            _ if docker.ends_with("zstd") => Compression::Zstd,
            _ => Compression::None,
        };
        set(
            layer,
            "mediaType",
            compression.layer_media_type().unwrap_or_default(),
        );
    }
    Ok(value.to_string().into_bytes())
}

fn set(value: &mut Value, key: &str, text: &str) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.into(), json!(text));
    }
}

/// Writes members with nothing in their headers that differs from time to time.
struct Tar<'a, W: Write> {
    builder: tar::Builder<W>,
    task: &'a dyn Task,
}

impl<W: Write> Tar<'_, W> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.stream(name, u64::try_from(bytes.len()).unwrap_or(0), bytes)
    }

    fn stream(&mut self, name: &str, size: u64, mut content: impl Read) -> Result<()> {
        let fail = |e: io::Error| Error::io("write the image archive", e);
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(fail)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.builder
            .append(&header, content.by_ref().take(size))
            .map_err(fail)?;
        self.task.advance(size);
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        let fail = |e: io::Error| Error::io("write the image archive", e);
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_path(name).map_err(fail)?;
        header.set_mode(0o755);
        header.set_cksum();
        self.builder.append(&header, io::empty()).map_err(fail)
    }
}
