//! What manifests say, as far as fetching and sending need it. May not: change a byte of one: a manifest
//! is kept as it came.

use serde::Deserialize;

use regatta_model::Digest;

use crate::error::{Error, Result};
use crate::limits;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// All forms that are taken.
pub(super) const TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// A blob as a manifest refers to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A manifest of one image.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ImageManifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest's bytes are.
pub(super) enum Form {
    /// One image.
    Image(ImageManifest),
    /// A list of images for several platforms.
    Index(serde_json::Value),
}

/// Tells the form by the media type in the text, else the one it came with, else by its members.
pub(super) fn read(bytes: &[u8], content_type: &str, what: &str) -> Result<(Form, String)> {
    let wrong = |why: String| Error::malformed(what, why);
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| wrong(format!("it is not JSON: {e}")))?;
    if value
        .get("schemaVersion")
        .and_then(serde_json::Value::as_u64)
        != Some(2)
    {
        return Err(wrong(
            "it has an outdated form (schema version 1); the image must be pushed anew by a present \
             tool"
            .to_owned(),
        ));
    }
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = match value.get("mediaType").and_then(serde_json::Value::as_str) {
        Some(own) => own,
        None if TYPES.contains(&content_type) => content_type,
        None if value.get("manifests").is_some() => OCI_INDEX,
        None => OCI_MANIFEST,
    }
    .to_owned();
    match media_type.as_str() {
        OCI_INDEX | DOCKER_LIST => Ok((Form::Index(value), media_type)),
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let manifest: ImageManifest =
                serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
            if manifest.layers.len() > limits::LAYERS {
                let most = u64::try_from(limits::LAYERS).unwrap_or(u64::MAX);
                return Err(Error::limit(what, "image.layers", most));
            }
            check_layers(&manifest, what)?;
            Ok((Form::Image(manifest), media_type))
        }
        other => {
            let other: String = other
                .chars()
                .filter(|c| !c.is_control())
                .take(100)
                .collect();
            Err(wrong(format!("{other:?} is not an image's form")))
        }
    }
}

fn check_layers(manifest: &ImageManifest, what: &str) -> Result<()> {
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        if kind.contains("nondistributable") || kind.contains("foreign") {
            let why = "it has a layer that lives outside its registry, which is not supported";
            return Err(Error::malformed(what, why));
        }
        let taken = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
        ];
        if !kind.is_empty() && !taken.iter().any(|prefix| kind.starts_with(prefix)) {
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(100).collect();
            let why = format!(
                "its layer of the type {kind:?} is no file system; it is no container image"
            );
            return Err(Error::malformed(what, why));
        }
        if kind.ends_with("+encrypted") {
            return Err(Error::malformed(
                what,
                "its layers are encrypted, which is not supported",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(read(index, "", "m").unwrap(), (Form::Index(_), t) if t == OCI_INDEX));
        assert!(
            matches!(read(index, DOCKER_LIST, "m").unwrap(), (Form::Index(_), t) if t == DOCKER_LIST)
        );
        assert!(read(br#"{"schemaVersion":1}"#, "", "m").is_err());
        assert!(read(b"[]", "", "m").is_err());
        assert!(read(br#"{"schemaVersion":2,"mediaType":"text/plain"}"#, "", "m").is_err());
    }

    #[test]
    fn layers_that_are_no_file_systems_are_refused() {
        let digest = Digest::of(b"");
        for (kind, taken) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                false,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                false,
            ),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
        ] {
            let text = serde_json::json!({"schemaVersion": 2, "config": {"digest": digest, "size": 2},
                "layers": [{"mediaType": kind, "digest": digest, "size": 0}]});
            assert_eq!(
                read(text.to_string().as_bytes(), "", "m").is_ok(),
                taken,
                "{kind}"
            );
        }
    }
}
