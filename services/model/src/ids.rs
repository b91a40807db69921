//! Names and numbers of things: runs, owners, cells, attempts, hosts. May not: make them up (randomness and
//! time are the caller's).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The text is no name of this kind.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text:?} is not a {kind}: {expected}")]
pub struct BadName {
    /// The text, cut to 100 characters.
    pub text: String,
    /// What it should have been.
    pub kind: &'static str,
    /// What such a name looks like.
    pub expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $most:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                let fits = text.len() <= $most
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.chars().all(inner);
                if fits {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(100).collect();
                    Err(BadName { text, kind: $kind, expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// A run's id: letters, digits, `-`, `_`, `.`; 64 at most; sortable by the time of submission.
    RunId, "run", 64, "expected up to 64 letters, digits, '-', '_' or '.', as `regatta runs` lists them"
);
name!(
    /// A host's name in the fleet: letters, digits, `-`, `_`, `.`; 253 at most, as in DNS.
    HostName, "host name", 253, "expected up to 253 letters, digits, '-', '_' or '.', beginning with a letter or digit"
);
name!(
    /// Whose runs share the fleet with other owners' runs: letters, digits, `-`, `_`, `.`; 64 at most.
    Owner, "owner", 64, "expected up to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit"
);

/// A cell's place within its run, from 0. It decodes to axis values; see `matrix::Cells`.
pub type CellNumber = u64;

/// Which attempt of its cell an attempt is, from 1.
pub type Ordinal = u32;

/// One life of a host's executor; each start of an executor is the next one.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// One execution of a cell in one fresh container: unique for ever.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct AttemptId {
    /// The run it belongs to.
    pub run: RunId,
    /// The cell that it executes.
    pub cell: CellNumber,
    /// Which attempt of the cell, from 1.
    pub ordinal: Ordinal,
}

/// `run/cell/ordinal`, as `regatta logs` and error messages write it.
impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.cell, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for wrong in ["", ".", "..", "a/b", "-x", "a b", "ä", &"a".repeat(65)] {
            assert!(wrong.parse::<RunId>().is_err(), "{wrong:?}");
        }
        assert_eq!(
            "0190-ab.c_d".parse::<RunId>().unwrap().as_str(),
            "0190-ab.c_d"
        );
    }
}
