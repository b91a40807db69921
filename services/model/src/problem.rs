//! Errors over HTTP, as RFC 9457 has them (`application/problem+json`).

use serde::{Deserialize, Serialize};

/// A problem, as a client gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// What kind: `about:blank`, or `urn:regatta:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, for a person.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and the way out.
    pub detail: String,
    /// For a matrix: the line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// For a matrix: the column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// For a matrix: the place as a JSON pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}
