//! Which image of an index is meant for which machine. May not: fetch anything.

use std::fmt;

/// An operating system and processor, as OCI names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v8`, ...; empty where there is none.
    pub variant: String,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
        }
    }

    /// The place of the entry of an index (its JSON) that fits this platform best; entries without a
    /// platform fit when they are alone. Attestations (`unknown/unknown`) never fit.
    pub fn choose(&self, index: &serde_json::Value) -> Option<usize> {
        let entries = index.get("manifests")?.as_array()?;
        let text = |entry: &serde_json::Value, key: &str| {
            entry
                .pointer(&format!("/platform/{key}"))
                .and_then(|v| v.as_str())
                .unwrap_or("")
                .to_owned()
        };
        let fits = |entry: &serde_json::Value| {
            text(entry, "os") == self.os && text(entry, "architecture") == self.architecture
        };
        let exact = |entry: &serde_json::Value| {
            let variant = text(entry, "variant");
            fits(entry) && (variant == self.variant || (variant.is_empty() && self.variant == "v8"))
        };
        entries
            .iter()
            .position(exact)
            .or_else(|| {
                entries
                    .iter()
                    .position(|e| fits(e) && text(e, "variant").is_empty())
            })
            .or_else(|| entries.iter().position(fits))
            .or_else(|| match entries.as_slice() {
                [one] if one.get("platform").is_none_or(serde_json::Value::is_null) => Some(0),
                _ => None,
            })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}
