//! The image that a build or a commit is making: the base's configuration and layers, and what was added.
//! May not: change what it does not know: unknown members of a configuration stay.

use regatta_model::Digest;
use serde_json::{Map, Value, json};

use super::layer::Layer;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::store::Store;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The search path of a container whose image gives none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image under construction.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// The configuration's JSON, without `rootfs`, `history` and `created`, which are kept apart.
    config: Map<String, Value>,
    layers: Vec<Value>,
    diff_ids: Vec<Digest>,
    history: Vec<Value>,
    /// Seconds since 1970; none: nothing in it has a time.
    created: Option<u64>,
    /// The base's own text of its time, for as long as nothing was added.
    created_text: Option<Value>,
}

impl Draft {
    /// `FROM scratch`.
    pub(crate) fn scratch() -> Self {
        let platform = Platform::host();
        let mut config = Map::new();
        config.insert("architecture".into(), platform.architecture.into());
        config.insert("os".into(), platform.os.into());
        if !platform.variant.is_empty() {
            config.insert("variant".into(), platform.variant.into());
        }
        config.insert("config".into(), json!({}));
        Self {
            config,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            history: Vec::new(),
            created: None,
            created_text: None,
        }
    }

    /// An image of the store, by its manifest.
    pub(crate) fn from_store(store: &Store, digest: &Digest) -> Result<Self> {
        let manifest = store.manifest(digest)?;
        let wrong = |why: &str| Error::malformed(format!("the configuration of {digest}"), why);
        let config: Value = serde_json::from_slice(&store.read_blob(&manifest.config.digest)?)
            .map_err(|e| wrong(&e.to_string()))?;
        let Value::Object(mut config) = config else {
            return Err(wrong("it is no object"));
        };
        let rootfs = config.shift_remove("rootfs").unwrap_or_default();
        let diff_ids: Vec<Digest> = rootfs
            .get("diff_ids")
            .cloned()
            .and_then(|ids| serde_json::from_value(ids).ok())
            .ok_or_else(|| wrong("it does not say what its layers are"))?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(wrong(
                "it tells of another number of layers than the manifest",
            ));
        }
        let history = match config.shift_remove("history") {
            Some(Value::Array(history)) => history,
            _ => Vec::new(),
        };
        let created_text = config.shift_remove("created");
        if !config.get("config").is_some_and(Value::is_object) {
            config.insert("config".into(), json!({}));
        }
        let layers = manifest
            .layers
            .iter()
            .map(|layer| {
                let media_type = match layer.media_type.strip_prefix(DOCKER_LAYER) {
                    Some(".gzip") => format!("{OCI_LAYER}+gzip"),
                    Some(".zstd") => format!("{OCI_LAYER}+zstd"),
                    Some("") => OCI_LAYER.to_owned(),
                    _ => layer.media_type.clone(),
                };
                descriptor(&media_type, &layer.digest, layer.size)
            })
            .collect();
        let created = created_text
            .as_ref()
            .and_then(Value::as_str)
            .and_then(parse_time);
        Ok(Self {
            config,
            layers,
            diff_ids,
            history,
            created,
            created_text,
        })
    }

    /// The `config` member: what containers of this image are started with.
    pub(crate) fn settings(&self) -> Option<&Map<String, Value>> {
        self.config.get("config").and_then(Value::as_object)
    }

    /// Sets a member of `config`.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        if let Some(settings) = self.config.get_mut("config").and_then(Value::as_object_mut) {
            settings.insert(key.to_owned(), value);
        }
    }

    /// Removes a member of `config`.
    pub(crate) fn unset(&mut self, key: &str) {
        if let Some(settings) = self.config.get_mut("config").and_then(Value::as_object_mut) {
            settings.shift_remove(key);
        }
    }

    /// A text of `config`; empty where there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.settings()
            .and_then(|s| s.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A list of texts of `config`.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        let list = self.settings()?.get(key)?.as_array()?;
        Some(
            list.iter()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
        )
    }

    /// Adds a key to a member that maps.
    pub(crate) fn put(&mut self, key: &str, name: &str, value: Value) {
        let mut map = match self.settings().and_then(|s| s.get(key)) {
            Some(Value::Object(map)) => map.clone(),
            _ => Map::new(),
        };
        map.insert(name.to_owned(), value);
        self.set(key, Value::Object(map));
    }

    /// The environment, in order.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let list = self.list("Env").unwrap_or_default();
        list.iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Sets a variable of the environment.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.env();
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => env.push((name.to_owned(), value.to_owned())),
        }
        let list = env
            .iter()
            .map(|(name, value)| format!("{name}={value}").into())
            .collect();
        self.set("Env", Value::Array(list));
    }

    /// Where commands run; `/` by default.
    pub(crate) fn workdir(&self) -> &str {
        match self.text("WorkingDir") {
            "" => "/",
            workdir => workdir,
        }
    }

    /// What the layers are as one: equal chains have equal content.
    pub(crate) fn chain(&self) -> Digest {
        Digest::of_canonical(&self.diff_ids)
    }

    /// Whether it has layers.
    pub(crate) fn is_empty(&self) -> bool {
        self.diff_ids.is_empty()
    }

    /// The latest time in it, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.created.unwrap_or(0)
    }

    /// Adds a layer.
    pub(crate) fn push_layer(&mut self, layer: &Layer, created_by: &str) {
        self.layers.push(descriptor(
            &format!("{OCI_LAYER}+gzip"),
            &layer.digest,
            layer.size,
        ));
        self.diff_ids.push(layer.diff_id);
        self.created = Some(self.created().max(layer.newest));
        self.created_text = None;
        self.remember(created_by, false);
    }

    /// Adds a step that made no layer.
    pub(crate) fn push_empty(&mut self, created_by: &str) {
        self.remember(created_by, true);
    }

    fn remember(&mut self, created_by: &str, empty: bool) {
        let mut entry = Map::new();
        if let Some(created) = &self.created_text {
            entry.insert("created".into(), created.clone());
        } else if let Some(created) = self.created {
            entry.insert("created".into(), time(created).into());
        }
        entry.insert("created_by".into(), created_by.into());
        if empty {
            entry.insert("empty_layer".into(), true.into());
        }
        self.history.push(Value::Object(entry));
    }

    /// Writes configuration and manifest into the store; gives the manifest's digest. Times are at most
    /// `epoch`. The same draft gives the same digest.
    pub(crate) fn write(&self, store: &Store, epoch: Option<u64>) -> Result<Digest> {
        let mut config = Map::new();
        let created = match (&self.created_text, epoch) {
            (Some(text), None) => text.clone(),
            (_, epoch) => time(self.created().min(epoch.unwrap_or(u64::MAX))).into(),
        };
        config.insert("created".into(), created);
        for (key, value) in &self.config {
            config.insert(key.clone(), value.clone());
        }
        let ids: Vec<_> = self
            .diff_ids
            .iter()
            .map(|id| id.to_string().into())
            .collect();
        config.insert(
            "rootfs".into(),
            json!({"type": "layers", "diff_ids": Value::Array(ids)}),
        );
        config.insert("history".into(), Value::Array(self.history.clone()));
        let config = Value::Object(config).to_string();
        let config_digest = store.ingest_bytes(config.as_bytes())?;
        let size = u64::try_from(config.len()).unwrap_or(u64::MAX);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config_digest, size),
            "layers": self.layers,
        });
        store.ingest_bytes(manifest.to_string().as_bytes())
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

/// Seconds since 1970 as RFC 3339 has them, in UTC. Years above 9999 are cut to that.
pub(crate) fn time(seconds: u64) -> String {
    crate::archive::rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The seconds since 1970 of an RFC 3339 time, its offset left out of account: it is only compared.
fn parse_time(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let month_shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
            assert_eq!(parse_time(text), Some(seconds));
        }
        assert_eq!(
            parse_time("2023-11-14T22:13:20.123456789Z"),
            Some(1_700_000_000)
        );
        assert_eq!(parse_time("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse_time("yesterday"), None);
    }
}
