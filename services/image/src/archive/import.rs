//! A root filesystem's tar archive becomes an image of one layer. May not: change the archive, except
//! that xz, which OCI has no name for, is taken off.

use std::collections::BTreeMap;
use std::io::Read;

use regatta_model::Digest;
use serde_json::json;

use super::rfc3339;
use crate::compression::Compression;
use crate::error::Result;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::store::{Blob, Store, local_name};

/// What programs find where an image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How an imported image is configured.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// The command; empty: `/bin/sh`.
    pub command: Vec<String>,
    /// What the command is given to; empty: nothing.
    pub entrypoint: Vec<String>,
    /// `NAME=VALUE`; a usual PATH is added where there is none.
    pub env: Vec<String>,
    /// Working directory; none: `/`.
    pub workdir: Option<String>,
    /// User; none: root.
    pub user: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970; 0 where nobody says, so that the same archive gives
    /// the same image.
    pub created: i64,
}

impl Store {
    /// Takes in a root filesystem (tar, uncompressed or gzip, zstd, xz) as an image of this name.
    pub fn import(
        &self,
        reader: impl Read,
        name: &str,
        options: &Import,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let name = local_name(name)?;
        let work = self.work()?;
        let task = progress.begin(&format!("import {name}"), None);
        let mut told = super::load::Told {
            reader,
            task: &*task,
        };
        let (stream, staged) = self.take_base(&mut told)?;
        let media_type = stream
            .compression
            .layer_media_type()
            .or(Compression::None.layer_media_type())
            .unwrap_or_default();
        let (digest, size) = self.publish(staged)?;
        let layer = Blob {
            media_type: media_type.into(),
            digest,
            size,
        };
        let manifest = self.put_image(&options.config(stream.diff_id), &[layer])?;
        self.admit(work, &manifest, &[name])?;
        task.finish();
        Ok(manifest)
    }
}

impl Import {
    fn config(&self, diff_id: Digest) -> Vec<u8> {
        let platform = Platform::host();
        let created = rfc3339(self.created);
        let mut env = self.env.clone();
        if !env.iter().any(|pair| pair.starts_with("PATH=")) {
            env.insert(0, PATH.into());
        }
        let mut config = serde_json::Map::new();
        config.insert("Env".into(), json!(env));
        let shell = ["/bin/sh".to_owned()];
        let bare = self.entrypoint.is_empty() && self.command.is_empty();
        let command = if bare {
            shell.as_slice()
        } else {
            &self.command
        };
        for (key, list) in [("Entrypoint", self.entrypoint.as_slice()), ("Cmd", command)] {
            if !list.is_empty() {
                config.insert(key.into(), json!(list));
            }
        }
        for (key, text) in [("WorkingDir", &self.workdir), ("User", &self.user)] {
            if let Some(text) = text {
                config.insert(key.into(), json!(text));
            }
        }
        if !self.labels.is_empty() {
            config.insert("Labels".into(), json!(self.labels));
        }
        let mut image = serde_json::Map::new();
        for (key, value) in [
            ("created", json!(created)),
            ("architecture", json!(platform.architecture)),
            ("os", json!(platform.os)),
            ("config", json!(config)),
            (
                "rootfs",
                json!({"type": "layers", "diff_ids": [diff_id.to_string()]}),
            ),
            (
                "history",
                json!([{"created": created, "created_by": "regatta image import"}]),
            ),
        ] {
            image.insert(key.into(), value);
        }
        if !platform.variant.is_empty() {
            image.insert("variant".into(), json!(platform.variant));
        }
        json!(image).to_string().into_bytes()
    }
}
