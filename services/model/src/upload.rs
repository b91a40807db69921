//! Where an agent brings a log or an artifact (`POST .../attempts/{attempt}/upload`). May not: bring it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A file that an agent is about to upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UploadRequest {
    /// The generation of the assignment that it is kept by.
    pub generation: u64,
    /// How long it is.
    pub bytes: u64,
    /// The artifact's path, relative with `/`; none: it is the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum UploadPlace {
    /// To the server, as ever; also where what is named here fails.
    Server,
    /// Nowhere: the attempt is recorded, and its files stay as they are.
    Nowhere,
    /// By PUT straight to the store of blobs, for a while.
    Url {
        /// Whoever has it may do this and nothing else.
        url: String,
        /// What the request must say besides, by name.
        headers: BTreeMap<String, String>,
    },
}
