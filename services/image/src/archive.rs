//! Images as single files: root filesystems to import, Docker's and OCI's archives to load and save, and
//! directories packed into tar. May not: trust a name, size or digest that an archive gives.

use regatta_model::Digest;
use serde_json::json;

use crate::error::Result;
use crate::store::{Blob, OCI_CONFIG, OCI_MANIFEST, Store};

mod import;
mod load;
mod pack;
mod save;
mod time;

pub use import::Import;
pub use load::Loaded;
pub use pack::{Filter, PackOptions, Packed, Take, Times, Tree, is_one_file, pack, pack_directory};
pub use save::Format;
pub use time::rfc3339;

impl Store {
    /// Writes an OCI manifest for blobs that are in the store, and its configuration. Equal input gives
    /// equal digests.
    pub(crate) fn put_image(&self, config: &[u8], layers: &[Blob]) -> Result<Digest> {
        let config_digest = self.ingest_bytes(config)?;
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": layer.media_type,
                    "digest": layer.digest.to_string(),
                    "size": layer.size,
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest.to_string(), "size": config.len()},
            "layers": layers,
        });
        self.ingest_bytes(manifest.to_string().as_bytes())
    }
}
